"""From the section `sampling` to a sampler and an objective that keeps its scores; and how long its epochs are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.classifier import classifies
from alignment_jax.core.errors import ConfigError
from alignment_jax.sampling.orders import ORDERS
from alignment_jax.sampling.sampler import Sampler
from alignment_jax.train.objective import Objective
from alignment_jax.train.score_tracking import ScoreTracking

# criterion -> choice -> what it is called among the objective's per-sample results.
Choices = dict[str, dict[str, str | None]]
CLASSIFICATION: Choices = {
    "similarity": {
        "auto": "prediction_similarity",
        "prediction": "prediction_similarity",
        "feature": "feature_similarity",
        "none": None,
    },
    "difficulty": {"loss": "loss", "gradient": "gradient", "none": None},
}
ALIGNMENT: Choices = {
    "similarity": {"auto": "similarity", "feature": "similarity", "none": None},
    "difficulty": {"loss": "loss", "none": None},
}


def criteria_of(config: ConfigDict) -> Choices:
    """What a sample can be scored by, in the task of a configuration."""
    return CLASSIFICATION if classifies(config) else ALIGNMENT


def build_sampler(config: ConfigDict, size: int, split: data.PairSplit | None = None) -> Sampler:
    """The sampler of a training set of `size` samples.

    Args:
      config: the whole configuration.
      size: samples.
      split: the training set; None where only its size matters and no order is asked for.

    Raises:
      ConfigError: a number out of range, what contradicts another setting, or an order by classes without any.
    """
    section = config.sampling
    criteria: dict[str, str] = {}
    for criterion, choices in criteria_of(config).items():
        if key := choices[section[criterion]]:
            criteria[criterion] = key
    sampler = Sampler(
        size=size,
        seed=config.seed,
        method=section.name,
        start=section.start,
        epochs=section.epochs,
        replacement=section.replacement,
        floor=section.floor,
        rescore_every=section.rescore_every,
        criteria=criteria,
        scores=section.scores,
        label=None if split is None else split.label,
        paired=None if split is None or not split.present else _paired(split),
    )
    if split is not None and split.label is None and ORDERS[section.name].labels:
        raise ConfigError(
            f"sampling.name is {section.name!r}, but {config.data} has no classes; use sampling.name=shuffle"
        )
    if sampler.recycles and config.perturb.fusemix > 0:
        raise ConfigError(
            "sampling.scores=recycled needs the losses of samples, but perturb.fusemix trains on mixtures of them; "
            "use sampling.scores=fresh"
        )
    return sampler


def _paired(split: data.PairSplit) -> np.ndarray:
    """bool [n]: the samples with two modalities or more."""
    sides = ("a", "b") if split.c is None else ("a", "b", "c")
    return np.sum([split.present.get(side, np.ones(len(split), bool)) for side in sides], axis=0) >= 2


def order_is_lost(config: ConfigDict, size: int) -> bool:
    """Whether an order by scores changes nothing: every epoch is one batch of all samples, and any order is the same.

    Captions, views and augmentations belong to a sample, noise and dropout to a row of the batch: another order gives
    a sample other noise of the same law. FuseMix mixes the first half of a batch with the second, so there the order
    decides who is mixed with whom.

    Args:
      config: the whole configuration.
      size: samples in the training set.
    """
    if config.input.batch_size < size or config.perturb.fusemix:
        return False
    sampler = build_sampler(config, size)
    return sampler.scored and sampler.permutes


def with_scores(config: ConfigDict, objective: Objective, sampler: Sampler) -> Objective:
    """The objective, keeping the sampler's scores in its state where there are any."""
    if not sampler.scored:
        return objective
    return ScoreTracking(
        objective,
        size=sampler.size,
        criteria=sampler.criteria,
        recycle=sampler.recycles,
        decay=config.sampling.decay,
    )


def epoch_lengths(sampler: Sampler, *, batch_size: int, halves: bool) -> Callable[[float], float]:
    """(epochs) -> steps that the first so many epochs take; an order may show less in some of them.

    >>> of_epochs = epoch_lengths(Sampler(size=100, seed=0), batch_size=30, halves=False)
    >>> of_epochs(2), of_epochs(2.5)
    (6.0, 7.5)
    """
    parts = 2 if halves else 1

    def length(epoch: int) -> int:
        shown = sampler.shown(epoch)
        width = max(1, min(batch_size, shown) // parts) * parts
        return max(1, shown // width)

    def of_epochs(epochs: float) -> float:
        whole, repeats = int(epochs), sampler.repeats
        first, period = (whole, 1) if repeats is None else repeats
        begun = sum(length(epoch) for epoch in range(min(whole, first)))
        times, rest = divmod(max(0, whole - first), period)
        cycle = [length(epoch) for epoch in range(first, first + period)] if whole > first else []
        return float(begun + times * sum(cycle) + sum(cycle[:rest]) + (epochs - whole) * length(whole))

    return of_epochs
