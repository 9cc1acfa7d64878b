"""What a run is for decides how it is evaluated: retrieval for an alignment, accuracies for a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals, report
from alignment_jax.config.classification import classifies, prediction_heads
from alignment_jax.config.inputs import Inputs, evaluation_split, samples_as_they_are
from alignment_jax.core.types import PyTree
from alignment_jax.train import evaluation
from alignment_jax.train.experiment import Model

Evaluate = Callable[[PyTree, Any], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of evaluation.

    split: (config, prepared split, inputs) -> what `evaluation` takes.
    evaluation: (config, model) -> (variables, such a split) -> metrics.
    chance: split -> the same metrics, as far as they are known, of a guess.
    aligns: whether the model makes embeddings of both sides.
    """

    split: Callable[[ConfigDict, data.PairSplit, Inputs], Any]
    evaluation: Callable[[ConfigDict, Model], Evaluate]
    chance: Callable[[data.PairSplit], dict[str, float]]
    aligns: bool


def task_of(config: ConfigDict) -> Task:
    """The task of a configuration."""
    return CLASSIFICATION if classifies(config) else ALIGNMENT


def _labelled_split(config: ConfigDict, split: data.PairSplit, inputs: Inputs) -> evaluation.LabelledSplit:
    size = min(config.eval.batch_size, len(split))
    batches, rows = samples_as_they_are(config, split, inputs), data.padded_rows(np.arange(len(split)), size)
    return evaluation.LabelledSplit(lambda: batches(rows))


ALIGNMENT = Task(
    split=evaluation_split,
    evaluation=lambda config, model: evaluation.retrieval(model),
    chance=lambda split: report.chance_recall(split.b_to_a, n_a=len(split)),
    aligns=True,
)
CLASSIFICATION = Task(
    split=_labelled_split,
    evaluation=lambda config, model: evaluation.classification(model, heads=prediction_heads(config)),
    chance=lambda split: evals.chance_classification(split.label),  # type: ignore[arg-type]
    aligns=False,
)
