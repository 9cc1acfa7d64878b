"""Old module names, kept for one minor version: importing one gives the module of the new name and a warning."""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Sequence

# old name -> new name, both below alignment_jax; to be removed in 0.3
MOVED = {
    "config.build": "assembly.build",
    "config.inputs": "assembly.inputs",
    "config.methods": "assembly.methods",
    "config.samplers": "assembly.sampling",
    "config.clusters": "assembly.cluster_sizes",
    "config.resident": "assembly.device_data",
    "config.tasks": "assembly.tasks",
    "config.modules": "assembly.flax_modules",
    "config.initial": "assembly.cca_start",
    "config.classification": "assembly.classifier",
    "config.duplicates": "assembly.duplicate_ids",
    "config.from_data": "assembly.inferred_settings",
    "config.readers": "assembly.modality_checks",
    "config.run_start": "assembly.warm_start",
    "config.checked": "assembly.file_checks",
    "config.names": "assembly.allowed_values",
    "config.known_items": "inference.item_record",
    "config.moved": "inference.renamed_data",
    "config.models": "inference.seed_models",
    "config.trained": "inference.trained_model",
    "config.analysis": "inference.analysis",
    "config.zero_shot": "inference.class_prompts",
    "config.one_side": "inference.one_side",
    "config.ranges": "config.search_space",
    "config.files": "config.shipped",
    "losses.inputs": "losses.argument_checks",
    "losses.duplicates": "losses.item_ids",
    "models.build": "models.registry",
    "train.classification": "train.classification_objective",
    "train.resident": "train.device_data_set",
    "train.together": "train.vmapped_seeds",
    "train.scored": "train.score_tracking",
    "train.scoring": "train.score_pass",
    "train.ordered": "train.background",
    "train.messages": "train.broadcast",
    "train.samplers": "sampling.sampler",
    "train.orders": "sampling.orders",
    "evals.classification": "evals.head_accuracy",
    "evals.long_tail": "evals.recall_by_cluster_size",
    "evals.stress": "evals.stress_tests",
    "evals.measure": "evals.device_evaluation",
    "evals.retrieval": "evals.retrieval_results",
    "compare.cells": "compare.run_matrix",
    "compare.same": "compare.equivalent_methods",
    "compare.remaining": "compare.comparison_progress",
    "compare.items": "compare.item_scores",
    "compare.paired": "compare.paired_differences",
    "compare.records": "compare.run_records",
    "compare.outputs": "compare.result_files",
    "core.items": "core.distinct_items",
    "core.memo": "core.memoize",
    "core.reduce": "core.masked_reductions",
    "data.items": "data.item_fingerprints",
    "data.sources.items": "data.sources.grouped_items",
    "data.sources.paired": "data.sources.item_pairs",
    "data.folder": "data.confined_folder",
    "data.records": "data.record_fields",
    "data.tables": "data.manifest_rows",
    "data.pixels": "data.pixel_range",
    "data.classes": "data.class_labels",
    "data.collect": "data.bad_samples",
    "data.faults": "data.validation",
    "data.checking": "data.validation",
    "data.repeats": "data.duplicate_counts",
    "data.foreign": "data.unsupported_files",
    "data.fingerprint": "data.split_fingerprints",
    "data.roles": "data.column_roles",
    "data.patterns": "data.file_patterns",
    "data.missing": "data.missing_modalities",
    "data.archive": "data.npz_files",
    "data.text": "data.tokenizer",
    "data.one_side": "data.one_modality",
    "extract.progress": "extract.latents",
    "extract.sentence": "extract.sentence_transformers",
    "extract.prompts": "extract.prompt_latents",
    "metrics.retrieval": "metrics.recall",
    "metrics._arrays": "metrics._value_checks",
    "report.comparison": "report.comparison_page",
    "report.html": "report.run_page",
    "report.template": "report.blocks",
    "report.lead": "report.subtitle",
    "report.files": "core.storage",
    "report.jsonl": "core.jsonl",
    "similarity.anchors": "similarity.accumulators",
    "similarity.form": "similarity.implementation",
    "similarity.pairwise": "similarity.pairwise_losses",
    "similarity.ring": "similarity.sweep",
    "similarity.softmax": "similarity.softmax_losses",
    "similarity.softmax_tile": "similarity.online_softmax",
    "similarity.tiled": "similarity.tiles",
}


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = name.partition(".")
        if package != __package__ or rest not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        new = f"{__package__}.{MOVED[spec.name.partition('.')[2]]}"
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        old = types.ModuleType(spec.name)
        module = importlib.import_module(new)
        old.__dict__.update({name: value for name, value in vars(module).items() if not name.startswith("__")})
        old.__doc__ = module.__doc__
        # The new module may resolve renamed names through its own __getattr__.
        old.__dict__["__getattr__"] = functools.partial(getattr, module)
        return old

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
