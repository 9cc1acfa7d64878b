"""What a run is for decides how it is evaluated: retrieval for an alignment, accuracies for a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals, report
from alignment_jax.assembly.classifier import classifies, head_names, prediction_heads
from alignment_jax.assembly.inputs import Inputs, evaluation_split, samples_as_they_are
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree
from alignment_jax.train import evaluation
from alignment_jax.train.experiment import Model

Evaluate = Callable[[PyTree, Any], dict[str, float]]
RECALLS = (*(f"{way}_R@{k}" for way in ("a2b", "b2a") for k in (1, 5, 10)), "rsum")
# Of data that says to which degree each pair belongs together.
GRADED = tuple(f"{name}{way}" for name in ("mAP", "nDCG") for way in ("", "_a2b", "_b2a"))


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of evaluation.

    split: (config, prepared split, inputs) -> what `evaluation` takes.
    evaluation: (config, model) -> (variables, such a split) -> metrics.
    chance: split -> the same metrics, as far as they are known, of a guess.
    metrics: configuration -> the names of all metrics, whatever the data.
    missing: split -> those that this split cannot give.
    aligns: whether the model makes embeddings of both sides.
    """

    split: Callable[[ConfigDict, data.PairSplit, Inputs], Any]
    evaluation: Callable[[ConfigDict, Model], Evaluate]
    chance: Callable[[data.PairSplit], dict[str, float]]
    metrics: Callable[[ConfigDict], tuple[str, ...]]
    missing: Callable[[data.PairSplit], tuple[str, ...]]
    aligns: bool


def task_of(config: ConfigDict) -> Task:
    """The task of a configuration."""
    return CLASSIFICATION if classifies(config) else ALIGNMENT


def check_metric(config: ConfigDict, splits: Mapping[str, data.PairSplit]) -> None:
    """Refuses an `eval.metric` that the task has, but not on this data.

    Raises:
      ConfigError: val cannot give it.
    """
    task, name = task_of(config), config.eval.metric.removeprefix("val/")
    missing = task.missing(splits["val"]) if "val" in splits else ()
    if name in missing:
        given = ", ".join(f"val/{other}" for other in task.metrics(config) if other not in missing)
        why = (
            "does not say to which degree pairs belong together (graded relevancy)"
            if task.aligns
            else f"has no sample with modality {name.removeprefix('accuracy_')}"
        )
        raise ConfigError(f"eval.metric is 'val/{name}', but val of {config.data} {why}; it gives {given}")


def _labelled_split(config: ConfigDict, split: data.PairSplit, inputs: Inputs) -> evaluation.LabelledSplit:
    size = min(config.eval.batch_size, len(split))
    batches, rows = samples_as_they_are(config, split, inputs), data.padded_rows(np.arange(len(split)), size)
    return evaluation.LabelledSplit(lambda: batches(rows))


ALIGNMENT = Task(
    split=evaluation_split,
    evaluation=lambda config, model: evaluation.RetrievalEvaluation(model),
    chance=lambda split: report.chance_recall(
        split.b_to_a, n_a=len(split), ids_a=split.content_ids_a, ids_b=split.content_ids_b
    ),
    metrics=lambda config: (*RECALLS, *GRADED),
    missing=lambda split: () if split.relevancy is not None else GRADED,
    aligns=True,
)
CLASSIFICATION = Task(
    split=_labelled_split,
    evaluation=lambda config, model: evaluation.ClassificationEvaluation(model, heads=prediction_heads(config)),
    chance=lambda split: evals.chance_classification(split.label),  # type: ignore[arg-type]
    metrics=lambda config: ("accuracy", "macro_f1", "mAP", *(f"accuracy_{head}" for head in head_names(config))),
    missing=lambda split: tuple(f"accuracy_{side}" for side, has in split.present.items() if not has.any()),
    aligns=False,
)
