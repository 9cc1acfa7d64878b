"""Builds the sampler of a configuration, and the objective that keeps its scores."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.classifier import is_classifier
from alignment_jax.core.errors import ConfigError
from alignment_jax.sampling.orders import ORDERS
from alignment_jax.sampling.sampler import Sampler
from alignment_jax.train.objective import Objective
from alignment_jax.train.score_tracking import ScoreTracking

# criterion -> its value in the configuration -> the key among the objective's per-sample results
Criteria = dict[str, dict[str, str | None]]
CLASSIFICATION: Criteria = {
    "similarity": {
        "auto": "prediction_similarity",
        "prediction": "prediction_similarity",
        "feature": "feature_similarity",
        "none": None,
    },
    "difficulty": {"loss": "loss", "gradient": "gradient", "none": None},
}
ALIGNMENT: Criteria = {
    "similarity": {"auto": "similarity", "feature": "similarity", "none": None},
    "difficulty": {"loss": "loss", "none": None},
}


def sampling_criteria(model: ConfigDict) -> Criteria:
    """The criteria by which the task of a model can score samples."""
    return CLASSIFICATION if is_classifier(model) else ALIGNMENT


def build_sampler(
    section: ConfigDict,
    *,
    size: int,
    seed: int,
    criteria: Criteria,
    mixes: bool,
    split: data.PairSplit | None = None,
    spec: str = "",
) -> Sampler:
    """The sampler of a training set.

    Args:
      section: `sampling` of the configuration.
      size: samples.
      seed: of the order.
      criteria: of the task, from `sampling_criteria`.
      mixes: whether FuseMix mixes samples.
      split: the training set; None where only its size matters.
      spec: the data set's name in messages.

    Raises:
      ConfigError: a number out of range, settings that contradict each other, or an order by classes without classes.
    """
    keys = {criterion: choices[section[criterion]] for criterion, choices in criteria.items()}
    sampler = Sampler(
        size=size,
        seed=seed,
        method=section.name,
        start=section.start,
        epochs=section.epochs,
        replacement=section.replacement,
        floor=section.floor,
        rescore_every=section.rescore_every,
        criteria={criterion: key for criterion, key in keys.items() if key},
        scores=section.scores,
        label=None if split is None else split.label,
        paired=None if split is None or not split.present else _paired(split),
    )
    if split is not None and split.label is None and ORDERS[section.name].labels:
        raise ConfigError(f"sampling.name is {section.name!r}, but {spec} has no classes; use sampling.name=shuffle")
    if sampler.recycles and mixes:
        raise ConfigError(
            "sampling.scores=recycled needs the loss of each sample, but perturb.fusemix mixes samples; use "
            "sampling.scores=fresh"
        )
    return sampler


def _paired(split: data.PairSplit) -> np.ndarray:
    """bool [n]: the samples with two modalities or more."""
    sides = ("a", "b") if split.c is None else ("a", "b", "c")
    return np.sum([split.present.get(side, np.ones(len(split), bool)) for side in sides], axis=0) >= 2


def order_has_no_effect(config: ConfigDict, size: int) -> bool:
    """Whether one batch holds the whole training set, so that an order by scores changes nothing.

    Captions, views and augmentations belong to a sample. Noise and dropout belong to a row of the batch, with the same
    distribution in every row. FuseMix mixes the first half of a batch with the second, so there the order matters.

    Args:
      config: `sampling`, `input.batch_size`, `perturb.fusemix`, `model` and `seed` are read.
      size: samples in the training set.
    """
    if config.input.batch_size < size or config.perturb.fusemix:
        return False
    criteria = sampling_criteria(config.model)
    sampler = build_sampler(config.sampling, size=size, seed=config.seed, criteria=criteria, mixes=False)
    return sampler.scored and sampler.permutes


def with_score_tracking(objective: Objective, sampler: Sampler, *, decay: float) -> Objective:
    """The objective; where the order needs scores, it keeps them in its state.

    Args:
      objective: of the task.
      sampler: of the training set.
      decay: of the running averages of recycled scores.
    """
    if not sampler.scored:
        return objective
    return ScoreTracking(objective, size=sampler.size, criteria=sampler.criteria, recycle=sampler.recycles, decay=decay)
