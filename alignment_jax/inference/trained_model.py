"""A finished run as something to use: its model, its parameters, and how it reads data."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from alignment_jax import data, evals
from alignment_jax.assembly.build import build_model, load_data, load_source
from alignment_jax.assembly.classifier import classifies
from alignment_jax.assembly.inferred_settings import cut_texts
from alignment_jax.assembly.inputs import Inputs, build_inputs, evaluation_split, needed
from alignment_jax.assembly.modality_checks import sides
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.errors import DataError, RunError, UserError
from alignment_jax.core.types import PyTree
from alignment_jax.data.split import ALL
from alignment_jax.inference.item_record import kept, with_run_splits
from alignment_jax.train import checkpoint
from alignment_jax.train.evaluation import Embedder
from alignment_jax.train.experiment import Model
from alignment_jax.train.workdir import changed_names, read_config

TOKENIZER, SIGNATURE = "tokenizer.json", "inputs.json"
DATA = "data"  # in the signature: a digest of each split as the run found it (data.fingerprints)
TRAIN = "train"
LABELS = "label_names"  # in the signature of a classifier: its classes in the order of its outputs
HINTS = "hints"  # in the signature: how the data set may be augmented, which decides the size images are decoded at
LEARNED = "learned"  # in the signature: see `methods.learned_scalars`; the loss itself may be a program's own
Folder = str | os.PathLike[str]
# kind of an item -> the type of the array that the model takes
_DTYPES = {"text": np.int32, "image": np.uint8}


def open_run(workdir: Folder) -> Trained:
    """The best model of a finished run, for notebooks and programs; the data that it was trained on is not needed.

    Args:
      workdir: of the run, absolute or relative.

    Raises:
      UserError, RunError: the workdir holds no run, or no usable checkpoint.

    Example:
      `open_run("runs/mine").embed(alignment_jax.data.load("pairs:others.csv").splits["all"]).a`
    """
    folder = _folder(workdir)
    config, reads = _config_of(folder), _read_signature(folder)
    # Runs of earlier versions kept no hints.
    hints = reads[HINTS] if HINTS in reads else load_source(config).hints
    return _restored(folder, config, reads, hints)


@dataclasses.dataclass(frozen=True)
class Trained:
    """The best checkpoint on val of one workdir."""

    config: ConfigDict
    step: int
    inputs: Inputs
    variables: PyTree
    model: Model
    reads: Mapping[str, Any]

    def check_reads(self, split: data.PairSplit, *, where: str, names: Sequence[str] = ("a", "b", "c")) -> None:
        """Refuses items of another kind or size than the model was trained on.

        Args:
          split: any split with at least one item of each side.
          where: what the data is called in the message.
          names: what its modalities are called.

        Raises:
          DataError: the line names both.
        """
        if (split.c is not None) != ("c" in self.reads):
            raise DataError(f"{where}: it has not as many modalities as the model was trained on")
        called = dict(zip("abc", names, strict=False))
        for side, column in sides(split).items():
            if column.kind != (wanted := self.reads[side]["kind"]):
                hint = (
                    "; make latents of it with alignment-jax extract and the run's encoders"
                    if wanted == "embedding"
                    else ""
                )
                raise DataError(
                    f"{where}: {called[side]} holds {column.kind} items, but the model was trained on {wanted} "
                    f"items{hint}"
                )
        # Two items are enough to see shapes, and a whole split of images is not prepared for them.
        some = self.inputs.prepared(split.subset(np.arange(min(2, len(split.a)))))
        for side, found in signature(split, self.inputs.first_batch(some)).items():
            if found["shape"] != self.reads[side]["shape"]:
                raise DataError(
                    f"{where}: an item of {called[side]} has shape {found['shape']}, but the model was trained on "
                    f"{self.reads[side]['shape']}; use the encoder that made the training data"
                )

    def cut_texts(self, splits: Mapping[str, data.PairSplit]) -> list[str]:
        """A line for each split with texts that are longer than the model reads."""
        tokenizer, length = self.inputs.tokenizer, self.config.input.max_length
        if tokenizer is None:
            return []
        cut = {name: cut_texts(split, tokenizer, length) for name, split in splits.items()}
        return [
            f"{few} of {all_} texts of {name} are longer than the {length} tokens that this model reads"
            for name, (few, all_) in cut.items()
            if few
        ]

    @functools.cached_property
    def _evaluator(self) -> Embedder:
        return Embedder(self.model)

    def embed(self, split: data.PairSplit) -> evals.SplitEmbeddings:
        """Embeddings of every item of both sides of a split.

        Raises:
          UserError: the model is a classifier.
        """
        if not task_of(self.config).aligns:
            raise UserError(f"a run of model {self.config.model.name} classifies: it has no embeddings of both sides")
        self.check_reads(split, where="the split to embed")
        prepared = self.inputs.prepared(split)
        return self._evaluator(self.variables, evaluation_split(self.config, prepared, self.inputs))

    def embed_column(self, side: str, column: data.Column) -> np.ndarray:
        """Embeddings [k, d] of items of one side, "a" or "b", of the kind that this side reads."""
        prepared = self.inputs.prepare(column)
        size = min(self.config.eval.batch_size, len(prepared))
        transform = needed(prepared, self.inputs.evaluate[side])
        batches = data.iterate_items(prepared, transform, size, threads=self.config.input.threads)
        return self._evaluator.embed_side(side, self.variables, batches)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [k, d] of texts of your own, to search the other side with.

        Raises:
          UserError: the model does not read texts; frozen latents come from the encoder that made the others.
        """
        if self.inputs.tokenizer is None:
            raise UserError(
                f"a run of model {self.config.model.name} on {self.config.data} does not read texts; encode them with "
                "the encoder that made its latents"
            )
        column = self.inputs.prepare(data.TextColumn(tuple(texts)))
        batches = data.iterate_items(column, None, min(self.config.eval.batch_size, len(column)))
        return self._evaluator.embed_side("b", self.variables, batches)

    def embed_prompts(self, column: data.Column) -> np.ndarray:
        """Embeddings [k, d] of prompts: texts where the model reads texts, else latents of its frozen text encoder.

        Raises:
          UserError, DataError: prompts of the other kind.
        """
        if column.kind == "text":
            return self.embed_texts(column.read(np.arange(len(column))))
        if self.inputs.tokenizer is not None:
            raise DataError(f"{column.describe(0)}: latents, but the model reads texts; give the text file of prompts")
        batches = data.iterate_items(column, None, min(self.config.eval.batch_size, len(column)))
        return self._evaluator.embed_side("b", self.variables, batches)

    def evaluate(self, split: data.PairSplit) -> dict[str, float]:
        """The metrics of the run's task on a split."""
        self.check_reads(split, where="the split to evaluate")
        task = task_of(self.config)
        prepared = task.split(self.config, self.inputs.prepared(split), self.inputs)
        return task.evaluation(self.config, self.model)(self.variables, prepared)


def signature(split: data.PairSplit, sample: tuple[Any, ...]) -> dict[str, Any]:
    """What a model was trained to read: kind and shape of one item of each side."""
    return {
        side: {"kind": column.kind, "shape": list(array.shape[1:])}
        for (side, column), array in zip(sides(split).items(), sample, strict=True)
    }


def open_source(
    workdir: Folder, spec: str | None, split: str | None = None, *, on_bad_sample: str | None = None
) -> tuple[ConfigDict, data.PairSource]:
    """The configuration of a workdir and a data set to use its model on.

    The run's own data set keeps the splits of the run, also where those were cut by hash, and so does the same content
    under another name. Other data is used as it is: without split information it is the single split "all".

    Args:
      workdir: of the run.
      spec: of the data; None for the run's own.
      split: the one that is asked for; None for all of them. "all" is the whole of data without split information.
      on_bad_sample: "error" or "skip"; None for what the run was trained with.

    Raises:
      UserError: the workdir holds no run.
      DataError: the run's own data has changed so that the split may hold what the run learned from: both train and
        the split are not what they were.
    """
    workdir = _folder(workdir)
    config = _config_of(workdir)
    config.input.on_bad_sample = on_bad_sample or config.input.on_bad_sample
    names = _read_signature(workdir).get(LABELS) if classifies(config) else None
    if split == ALL:
        source = load_data(config, config.data if spec is None else spec)
    elif spec is None or spec == config.data:
        source = load_source(config)
        changed = changed_splits(workdir, data.fingerprints(source.splits))
        # What is as it was, was held out. What has changed beside a train that is as it was has not been learned from.
        asked = [split] if split is not None else changed
        if TRAIN in changed and any(name != TRAIN and name in changed for name in asked):
            raise DataError(
                f"{config.data}: {', '.join(changed)} changed since the run in {workdir} was trained, and may hold "
                "what it learned from; restore the data, or name a copy of it with --data to use what it is now"
            )
    else:
        source = load_data(config, spec)
        known = kept(workdir)
        source = source if known is None else with_run_splits(source, known, config)
    return config, source if names is None else data.with_label_names(source, names)


def _folder(workdir: Folder) -> pathlib.Path:
    """The absolute folder: checkpoints are not found by a relative one."""
    return pathlib.Path(workdir).expanduser().absolute()


def _config_of(folder: pathlib.Path) -> ConfigDict:
    found = read_config(folder)
    if found is None:
        raise UserError(f"{folder} holds no run (no config.json); give the --workdir of a finished training")
    return ConfigDict(found)


def changed_splits(workdir: pathlib.Path, found: Mapping[str, str]) -> list[str]:
    """The splits that are not what the run of a workdir was begun with; a run that kept no record has none."""
    record = kept_fingerprints(workdir)
    return [] if record is None else changed_names(record, found)


def kept_fingerprints(workdir: pathlib.Path) -> Mapping[str, str] | None:
    """The digest of each split as the run found it (`data.fingerprints`); None where there is no record."""
    try:
        return _read_signature(workdir).get(DATA)
    except RunError:  # lost or damaged: `train` writes it anew, and what uses the run says so itself
        return None


def load_trained(workdir: Folder, config: ConfigDict, source: data.PairSource) -> Trained:
    """The model of a workdir, ready for the items of `source`.

    Raises:
      DataError: the source's items are not of the kind or the size that the model was trained on.
      RunError: there is no usable checkpoint.
    """
    folder = _folder(workdir)
    trained = _restored(folder, config, _read_signature(folder), source.hints)
    split = next(iter(source.splits.values()))
    trained.check_reads(split, where=source.spec, names=source.modalities)
    return trained


def _restored(folder: pathlib.Path, config: ConfigDict, reads: Mapping[str, Any], hints: Mapping[str, Any]) -> Trained:
    """The best checkpoint of a run, from its folder alone."""
    kinds = {side: reads[side]["kind"] for side in "abc" if side in reads}
    tokenizer_file = folder / TOKENIZER
    tokenizer = data.Tokenizer.load(tokenizer_file) if tokenizer_file.is_file() else None
    inputs = build_inputs(config, kinds, hints=hints, tokenizer=tokenizer)
    model = build_model(config, tokenizer=tokenizer, classes=len(reads.get(LABELS, ())), learned=reads.get(LEARNED))
    sample = (
        jax.ShapeDtypeStruct((2, *reads[side]["shape"]), _DTYPES.get(kind, np.float32)) for side, kind in kinds.items()
    )
    params, model_state = jax.eval_shape(model.init, jax.random.key(0), *sample)
    target = checkpoint.abstract(
        {"params": params, "model_state": model_state}, SingleDeviceSharding(jax.local_devices()[0])
    )
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", keep=config.checkpoint.keep)
    try:
        steps = checkpoints.steps(checkpoint.BEST)
        if not steps:
            raise RunError(f"{folder} has no checkpoint yet; run the train command again to go on with it")
        problem, restored = checkpoints.read(steps[-1], target, kind=checkpoint.BEST)
    finally:
        checkpoints.close()
    if restored is None:
        raise RunError(
            f"checkpoint {folder / 'checkpoints' / checkpoint.BEST / str(steps[-1])} is damaged ({problem}); run the "
            "train command again: it puts the model of its last step in this one's place"
        )
    return Trained(config, restored.step, inputs, restored.state, model, reads)


def _read_signature(workdir: pathlib.Path) -> dict[str, Any]:
    path = workdir / SIGNATURE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not {"a", "b"} <= found.keys():
            raise ValueError("it lacks a side")
        return found
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} cannot be read ({error}); run the train command again to restore it") from error
