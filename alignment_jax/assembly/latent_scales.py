"""Scales of frozen latents: the unit of relative noise."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from alignment_jax import data
from alignment_jax.core.types import Array
from alignment_jax.train import processes

# Evenly spaced rows of a memory-mapped array, enough for three digits of its standard deviation.
_MAPPED_ROWS = 16384


@dataclasses.dataclass(frozen=True)
class LatentScales:
    """Properties of the training data that perturbations read.

    latents: both sides are frozen latents.
    towers: not so, but both sides are vectors of pretrained towers or latents: perturbations act on these.
    a, b: standard deviation of each side's latents; None where noise is absolute.
    """

    latents: bool
    a: Array | None = None
    b: Array | None = None
    towers: bool = False


def latent_scales(train: data.PairSplit, *, relative: bool, towers: bool = False) -> LatentScales:
    """The scales of both sides, measured only where `perturb.relative` needs them.

    Args:
      train: the prepared training split.
      relative: noise is in units of the standard deviation.
      towers: encoders of the model start from checkpoints.
    """
    latents = train.a.kind == train.b.kind == "embedding"
    if not (latents and relative):
        return LatentScales(latents, towers=towers and not latents)
    found = processes.compute_on_primary(lambda: {"a": _standard_deviation(train.a), "b": _standard_deviation(train.b)})
    return LatentScales(latents, jnp.float32(found["a"]), jnp.float32(found["b"]))


def _standard_deviation(column: data.Column) -> float:
    """Over all numbers of a column of latents."""
    rows = np.arange(len(column))
    if isinstance(column, data.ArrayColumn) and column.mapped:
        rows = rows[:: max(1, len(rows) // _MAPPED_ROWS)]
    return float(np.std(column.read(rows), dtype=np.float64))
