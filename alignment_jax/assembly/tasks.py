"""The two tasks and their evaluation: retrieval for alignment, accuracies for classification."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals, report
from alignment_jax.assembly.classifier import head_names, is_classifier, prediction_heads
from alignment_jax.assembly.inputs import Inputs, evaluation_split, scoring_batches
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree
from alignment_jax.train import evaluation
from alignment_jax.train.experiment import Model

Evaluate = Callable[[PyTree, Any], dict[str, float]]
RECALLS = (*(f"{way}_R@{k}" for way in ("a2b", "b2a") for k in (1, 5, 10)), "rsum")
# Only for data with graded relevancy.
GRADED = tuple(f"{name}{way}" for name in ("mAP", "nDCG") for way in ("", "_a2b", "_b2a"))


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of evaluation.

    split: (section `eval`, prepared split, inputs) -> the argument of the evaluation.
    evaluation: (model, heads of a prediction, None for all; devices) -> (variables, such a split) -> metrics.
    heads: (section `model`, `classification.predict`) -> heads of a prediction.
    chance: split -> the same metrics of a random guess, where they are known.
    metrics: section `model` -> the names of all metrics, whatever the data.
    missing: split -> the metrics that this split cannot give.
    aligns: whether the model embeds both sides.
    """

    split: Callable[[ConfigDict, data.PairSplit, Inputs], Any]
    evaluation: Callable[[Model, tuple[str, ...] | None, Sequence[jax.Device]], Evaluate]
    heads: Callable[[ConfigDict, str], tuple[str, ...] | None]
    chance: Callable[[data.PairSplit], dict[str, float]]
    metrics: Callable[[ConfigDict], tuple[str, ...]]
    missing: Callable[[data.PairSplit], tuple[str, ...]]
    aligns: bool


def task_of(model: ConfigDict) -> Task:
    """The task of a model, from its section `model`."""
    return CLASSIFICATION if is_classifier(model) else ALIGNMENT


def check_metric(metric: str, model: ConfigDict, splits: Mapping[str, data.PairSplit], *, spec: str) -> None:
    """Raises ConfigError when val cannot give a metric of the task.

    Args:
      metric: `eval.metric`.
      model: the section `model`.
      splits: of the data set.
      spec: its name in messages.
    """
    task, name = task_of(model), metric.removeprefix("val/")
    missing = task.missing(splits["val"]) if "val" in splits else ()
    if name in missing:
        given = ", ".join(f"val/{other}" for other in task.metrics(model) if other not in missing)
        why = (
            "has no graded relevancy"
            if task.aligns
            else f"has no sample with modality {name.removeprefix('accuracy_')}"
        )
        raise ConfigError(f"eval.metric is 'val/{name}', but val of {spec} {why}; it gives {given}")


def _labelled_split(section: ConfigDict, split: data.PairSplit, inputs: Inputs) -> evaluation.LabelledSplit:
    size = min(section.batch_size, len(split))
    batches, rows = scoring_batches(split, inputs), data.padded_rows(np.arange(len(split)), size)
    return evaluation.LabelledSplit(lambda part=(0, 1): batches(np.array_split(rows, part[1])[part[0]]))


ALIGNMENT = Task(
    split=evaluation_split,
    evaluation=lambda model, heads, devices: evaluation.RetrievalEvaluation(model, devices=devices),
    heads=lambda model, predict: None,
    chance=lambda split: report.chance_recall(
        split.b_to_a, n_a=len(split), ids_a=split.content_ids_a, ids_b=split.content_ids_b
    ),
    metrics=lambda model: (*RECALLS, *GRADED),
    missing=lambda split: () if split.relevancy is not None else GRADED,
    aligns=True,
)
CLASSIFICATION = Task(
    split=_labelled_split,
    evaluation=lambda model, heads, devices: evaluation.ClassificationEvaluation(model, heads=heads, devices=devices),
    heads=prediction_heads,
    chance=lambda split: evals.chance_classification(split.label),  # type: ignore[arg-type]
    metrics=lambda model: ("accuracy", "macro_f1", "mAP", *(f"accuracy_{head}" for head in head_names(model))),
    missing=lambda split: tuple(f"accuracy_{side}" for side, has in split.present.items() if not has.any()),
    aligns=False,
)
