"""The settings of hubness correction, and the training items whose embeddings are the query bank of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.classifier import is_classifier
from alignment_jax.assembly.inputs import Inputs, item_batches
from alignment_jax.core.errors import ConfigError
from alignment_jax.retrieval import HubnessCorrection

AUTO = "auto"
Batches = Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class BankItems:
    """A subset of the training items of each side, in padded batches as for evaluation: (part=(0, 1)) -> batches.

    views_a: the views of each a-item whose embeddings are averaged, at least one.
    b: the b-items.
    """

    views_a: Sequence[Batches]
    b: Batches


def check_hubness(config: ConfigDict) -> None:
    """Raises ConfigError where `eval.hubness` cannot be read, or the run has no bank of queries for it."""
    text = str(config.eval.hubness)
    if text != AUTO and not HubnessCorrection.parse(text):
        return
    if is_classifier(config.model):
        raise ConfigError(f"eval.hubness is {text!r}, but a classifier retrieves nothing: set eval.hubness=none")
    if config.eval.bank_size == 0:
        raise ConfigError(f"eval.hubness is {text!r}, but eval.bank_size is 0: it needs training items as queries")


def choose_bank_items(settings: ConfigDict, train: data.PairSplit, inputs: Inputs, *, seed: int) -> BankItems | None:
    """Up to `eval.bank_size` items of each side, drawn without replacement; None for a bank of size 0.

    Args:
      settings: the section `eval` of the configuration.
      train: the prepared training split.
      inputs: the input pipeline.
      seed: of the draw; equal seeds choose equal items.
    """
    if settings.bank_size == 0:
        return None
    sides = zip(("a", "b"), (train.a, train.b), np.random.SeedSequence(seed).spawn(2), strict=True)
    views_a, (b,) = (
        item_batches(settings, side, column.take(_rows(len(column), settings.bank_size, draw)), inputs)
        for side, column, draw in sides
    )
    return BankItems(views_a, b)


def _rows(count: int, most: int, seed: np.random.SeedSequence) -> np.ndarray:
    """Up to `most` row numbers below `count`, sorted: neighbours in a file are read together."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False, shuffle=False))
