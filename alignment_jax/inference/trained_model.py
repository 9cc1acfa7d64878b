"""The trained model of a finished run: it embeds, evaluates, and checks the data it is given."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals, models
from alignment_jax.assembly.checkpoint_inputs import checkpoint_images
from alignment_jax.assembly.classifier import is_classifier
from alignment_jax.assembly.data_loading import load_data, load_source
from alignment_jax.assembly.inferred_settings import count_truncated
from alignment_jax.assembly.inputs import Inputs, build_inputs, evaluation_split, item_batches
from alignment_jax.assembly.modality_checks import split_columns
from alignment_jax.assembly.saved_run import (
    HINTS,
    LABELS,
    Folder,
    SavedRun,
    read_run,
    read_run_config,
    read_signature,
    run_folder,
    saved_fingerprints,
)
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.deprecation import renamed_attributes, renamed_names
from alignment_jax.core.errors import DataError, UserError
from alignment_jax.core.types import PyTree
from alignment_jax.data.split import ALL
from alignment_jax.inference.item_record import load_item_record, with_run_splits
from alignment_jax.inference.query_bank import RunHubness
from alignment_jax.train.evaluation import Classifier, Embedder
from alignment_jax.train.experiment import Model
from alignment_jax.train.workdir import changed_names

TRAIN = "train"


def open_run(workdir: Folder) -> TrainedModel:
    """The best model of a finished run. The data that it was trained on is not needed.

    Args:
      workdir: of the run, absolute or relative.

    Raises:
      UserError, RunError: the workdir holds no run, or no usable checkpoint.

    Example:
      `open_run("runs/mine").embed(alignment_jax.data.load("pairs:others.csv").splits["all"]).a`
    """
    run = read_run(workdir)
    # Runs of earlier versions recorded no hints.
    hints = run.signature[HINTS] if HINTS in run.signature else load_source(run.config).hints
    return _restore(run, hints)


@renamed_attributes({"cut_texts": "truncation_notes"})
@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """The best model on val of one run.

    config: of the run.
    step: of the checkpoint.
    inputs: the input pipeline.
    variables: {"params", "model_state"}.
    model: pure functions.
    reads: kind and shape of an item of each side, from inputs.json.
    """

    config: ConfigDict
    step: int
    inputs: Inputs
    variables: PyTree
    model: Model
    reads: Mapping[str, Any]

    def check_reads(self, split: data.PairSplit, *, where: str, names: Sequence[str] = ("a", "b", "c")) -> None:
        """Checks that items have the kind and size that the model was trained on.

        Args:
          split: any split with at least one item of each side.
          where: name of the data in the message.
          names: of its modalities.

        Raises:
          DataError: another kind or size; the message names both.
        """
        if (split.c is not None) != ("c" in self.reads):
            raise DataError(f"{where}: another number of modalities than the model was trained on")
        called = dict(zip("abc", names, strict=False))
        for side, column in split_columns(split).items():
            if column.kind != (wanted := self.reads[side]["kind"]):
                hint = (
                    "; extract latents from it with alignment-jax extract and the run's encoders"
                    if wanted == "embedding"
                    else ""
                )
                raise DataError(
                    f"{where}: {called[side]} holds {column.kind} items, but the model was trained on {wanted} "
                    f"items{hint}"
                )
        # Two items are enough for shapes; preparing a whole split of images would be slow.
        some = self.inputs.prepared(split.subset(np.arange(min(2, len(split.a)))))
        for side, found in signature(split, self.inputs.first_batch(some)).items():
            if found["shape"] != self.reads[side]["shape"]:
                raise DataError(
                    f"{where}: an item of {called[side]} has shape {found['shape']}, but the model was trained on "
                    f"{self.reads[side]['shape']}; use the encoder that made the training data"
                )

    def truncation_notes(self, splits: Mapping[str, data.PairSplit]) -> list[str]:
        """A line for each split with texts that are longer than the model reads."""
        tokenizer, length = self.inputs.tokenizer, self.config.input.max_length
        if tokenizer is None:
            return []
        truncated = {name: count_truncated(split, tokenizer, length) for name, split in splits.items()}
        return [
            f"{few} of {all_} texts of {name} are longer than the {length} tokens that this model reads"
            for name, (few, all_) in truncated.items()
            if few
        ]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the parameters; files of vectors keep it."""
        found = hashlib.blake2b(digest_size=8)
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            array = np.asarray(leaf)
            found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @functools.cached_property
    def _evaluator(self) -> Embedder:
        return Embedder(self.model)

    def embed(self, split: data.PairSplit) -> evals.SplitEmbeddings:
        """Embeddings of every item of both sides of a split.

        Raises:
          UserError: the model is a classifier.
        """
        if not task_of(self.config.model).aligns:
            raise UserError(f"a run of model {self.config.model.name} classifies: it has no embeddings of both sides")
        self.check_reads(split, where="the split to embed")
        prepared = self.inputs.prepared(split)
        return self._evaluator(self.variables, evaluation_split(self.config.eval, prepared, self.inputs))

    @property
    def prediction_heads(self) -> tuple[str, ...] | None:
        """The heads whose logits a classifier sums; None for all, and for an alignment."""
        return task_of(self.config.model).heads(self.config.model, self.config.classification.predict)

    def classify(self, split: data.PairSplit) -> evals.SplitLogits:
        """Logits of every head for every sample of a split.

        Raises:
          UserError: the model aligns two modalities.
        """
        if task_of(self.config.model).aligns:
            raise UserError(f"a run of model {self.config.model.name} aligns two modalities: it has no class scores")
        self.check_reads(split, where="the split to classify")
        task = task_of(self.config.model)
        prepared = task.split(self.config.eval, self.inputs.prepared(split), self.inputs)
        return Classifier(self.model)(self.variables, prepared)

    def drop_unused(self, z: np.ndarray) -> np.ndarray:
        """Embeddings [k, d] without the dimensions that are 0 on both sides for every input.

        A closed form of fewer dimensions than `model.dim` leaves such; cosines and inner products stay the same.
        """
        used = models.used_dimensions(self.variables["params"])
        if used is None:
            return z
        return z[:, np.pad(used, (0, z.shape[1] - len(used)), constant_values=True)]

    def embed_column(self, side: str, column: data.Column) -> np.ndarray:
        """Embeddings [k, d] of items of one side, "a" or "b", of the kind that this side reads.

        The size of a batch is a power of two, so that queries of any number share few compiled programs.
        """
        prepared = self.inputs.prepare(column)
        size = min(self.config.eval.batch_size, 1 << (len(column) - 1).bit_length())
        views = [
            self._evaluator.embed_side(side, self.variables, batches())
            for batches in item_batches(self.config.eval, side, prepared, self.inputs, size=size)
        ]
        return views[0] if len(views) == 1 else evals.mean_direction(views)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [k, d] of texts, such as queries for the other side.

        Raises:
          UserError: the model does not read texts. `alignment_jax.load` embeds texts by the encoder of its latents.
        """
        if self.inputs.tokenizer is None:
            raise UserError(
                f"a run of model {self.config.model.name} on {self.config.data} does not read texts; "
                "alignment_jax.load(workdir).embed_texts encodes them as its latents were"
            )
        return self.embed_column("b", data.TextColumn(tuple(texts)))

    def embed_prompts(self, column: data.Column) -> np.ndarray:
        """Embeddings [k, d] of prompts: texts where the model reads texts, else latents of its frozen text encoder.

        Raises:
          UserError, DataError: prompts of the other kind.
        """
        if column.kind == "text":
            return self.embed_texts(column.read(np.arange(len(column))))
        if self.inputs.tokenizer is not None:
            raise DataError(f"{column.describe(0)}: latents, but the model reads texts; give the text file of prompts")
        return self.embed_column("b", column)

    def evaluate(self, split: data.PairSplit, *, hubness: RunHubness | None = None) -> dict[str, float]:
        """The metrics of the run's task on a split.

        Args:
          split: any split with at least one item of each side.
          hubness: of an alignment, to add the metrics of corrected scores ("corrected/rsum", ...).

        Returns:
          The metrics; of an alignment also `evals.hubness_metrics`.
        """
        task = task_of(self.config.model)
        if not task.aligns:
            return evals.classification_metrics(self.classify(split), heads=self.prediction_heads)
        self.check_reads(split, where="the split to evaluate")
        prepared = task.split(self.config.eval, self.inputs.prepared(split), self.inputs)
        evaluation: Any = task.evaluation(self.model, None, jax.local_devices())
        embedded = self._evaluator(self.variables, prepared)
        folded = None if hubness is None else hubness.fold(embedded)
        return evals.metrics_with_hubness(lambda one: evaluation.measure(one, prepared), embedded, folded)


def signature(split: data.PairSplit, sample: tuple[Any, ...]) -> dict[str, Any]:
    """Kind and shape of one item of each side; inputs.json keeps it."""
    return {
        side: {"kind": column.kind, "shape": list(array.shape[1:])}
        for (side, column), array in zip(split_columns(split).items(), sample, strict=True)
    }


def open_source(
    workdir: Folder, spec: str | None, split: str | None = None, *, on_bad_sample: str | None = None
) -> tuple[ConfigDict, data.PairSource]:
    """The configuration of a run, and a data set for its model.

    The run's own data set keeps the run's splits, and so does the same content under another name. Other data keeps its
    own splits; without split information it is the single split "all".

    Args:
      workdir: of the run.
      spec: of the data; None for the run's own.
      split: the wanted one; None for all of them. "all" is the whole data set without split information.
      on_bad_sample: "error" or "skip"; None for the run's setting.

    Raises:
      UserError: the workdir holds no run.
      DataError: train and the wanted split of the run's own data have changed, so the split may hold training items.
    """
    workdir = run_folder(workdir)
    config = read_run_config(workdir)
    config.input.on_bad_sample = on_bad_sample or config.input.on_bad_sample
    names = read_signature(workdir).get(LABELS) if is_classifier(config.model) else None
    if split == ALL:
        source = load_data(config, config.data if spec is None else spec)
    elif spec is None or spec == config.data:
        source = load_source(config)
        changed = changed_splits(workdir, data.fingerprints(source))
        # An unchanged split was held out. A changed split beside an unchanged train holds no training items.
        wanted = [split] if split is not None else changed
        if TRAIN in changed and any(name != TRAIN and name in changed for name in wanted):
            raise DataError(
                f"{config.data}: {', '.join(changed)} changed since the run in {workdir} was trained, and may hold "
                "training items; restore the data, or name a copy of it with --data to use the changed data"
            )
    else:
        source = load_data(config, spec)
        known = load_item_record(workdir)
        source = source if known is None else with_run_splits(source, known, config)
    return config, source if names is None else data.with_label_names(source, names)


def changed_splits(workdir: pathlib.Path, found: Mapping[str, str]) -> list[str]:
    """The splits whose fingerprint differs from the run's record; none without a record."""
    record = saved_fingerprints(workdir)
    return [] if record is None else changed_names(record, found)


def load_trained(workdir: Folder, config: ConfigDict, source: data.PairSource) -> TrainedModel:
    """The model of a run, checked against the items of `source`.

    Args:
      workdir: of the run.
      config: of the run, from `open_source`.
      source: the data set.

    Raises:
      DataError: the items have another kind or size than the model was trained on.
      RunError: there is no usable checkpoint.
    """
    trained = _restore(read_run(workdir, config=config), source.hints)
    split = next(iter(source.splits.values()))
    trained.check_reads(split, where=source.spec, names=source.modalities)
    return trained


def _restore(run: SavedRun, hints: Mapping[str, Any]) -> TrainedModel:
    config = run.config
    inputs = build_inputs(
        config.input,
        config.audio,
        kinds=run.kinds,
        hints=hints,
        tokenizer=run.tokenizer,
        images=checkpoint_images(config.model),
    )
    best = run.best()
    return TrainedModel(config, best.step, inputs, best.variables, best.model, run.signature)


__getattr__ = renamed_names(__name__, {"Trained": "TrainedModel"})
