"""The moments of the training pairs that a closed form is fitted to; all devices sum those of many pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from alignment_jax import baselines, data, models
from alignment_jax.core.errors import DataError
from alignment_jax.train import processes

# Up to here NumPy sums in float64. Cross-validation reads no more: it holds its folds in memory, and decomposes each.
MAX_TRAINING_ITEMS = 32768
# The error of a covariance of d features falls with sqrt(d / n): 5 % for 768 features. So many items in float32 take a
# CPU as long as 32,768 in float64, and a run of millions of pairs starts within seconds.
MAX_FITTED_ITEMS = 262_144


def subsample(split: data.PairSplit, most: int, seed: int) -> data.PairSplit:
    """The split, or `most` of its a-items."""
    if len(split) <= most:
        return split
    return split.subset(np.sort(np.random.default_rng(seed).permutation(len(split))[:most]))


def latents(norm: str, column: data.Column) -> np.ndarray:
    """[views, n, d], the input of the linear maps; `norm` is `model.input_norm`."""
    return np.stack([np.asarray(models.normalized_input(z, norm)) for z in _views(column, np.arange(len(column)))])


def _views(column: data.Column, rows: np.ndarray) -> list[Any]:
    views = (column, *column.further_views()) if isinstance(column, data.ArrayColumn) else (column,)
    return [view.read(rows) for view in views]


def training_moments(
    train: data.PairSplit, norm: str, *, seed: int, devices: Sequence[jax.Device] | None = None
) -> baselines.Moments | None:
    """The moments of many training pairs, all views of a with the first of b; None for few, which NumPy sums.

    Every process must make the same call: each reads a part of the pairs.

    Args:
      train: a prepared split of latents.
      norm: `model.input_norm`.
      seed: chooses the items where there are too many.
      devices: of the run; None for those of this process.

    Raises:
      DataError: a latent is not finite.
    """
    if len(train) <= MAX_TRAINING_ITEMS:
        return None
    some = subsample(train, MAX_FITTED_ITEMS, seed)
    # In the order of the a-items, so that a chunk reads neighbouring rows of both sides.
    order = np.argsort(some.b_to_a, kind="stable")

    def read(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = order[pairs]
        return np.stack(_views(some.a, some.b_to_a[rows])), some.b.read(rows)

    found = jax.local_devices() if devices is None else devices
    own = [device for device in found if device.process_index == jax.process_index()]

    def compute() -> dict[str, Any]:
        try:
            moments = baselines.chunk_moments(
                read,
                len(order),
                transform=functools.partial(models.normalized_input, input_norm=norm),
                devices=own,
                part=(jax.process_index(), jax.process_count()),
            )
        except ValueError as error:
            raise DataError(f"train cannot be fitted by CCA: {error}") from None
        return {} if moments is None else dataclasses.asdict(moments)

    parts = processes.compute_on_all(compute)
    return baselines.merge_moments([baselines.Moments(**part) for part in parts if part])
