"""The part of a temperature that depends on the size of a sample's cluster."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array


def cluster_shift(
    sizes: Array,
    *,
    min_size: Array | float,
    max_size: Array | float,
    min_shift: Array | float,
    max_shift: Array | float,
) -> jax.Array:
    """Linear map from cluster size to temperature shift: a dense cluster gets the higher temperature.

    sh(c) = s_min + (s_max - s_min) (c - c_min) / (c_max - c_min)

    Sizes outside [min_size, max_size] extrapolate, as in the authors' code, where a class missing from the table counts
    as one sample. Deviation: max_size == min_size gives min_shift for every size, where the authors' code gives NaN.

    Args:
      sizes: [n] number of samples in each sample's cluster or class (any shape; any real type).
      min_size: smallest size over the whole training set, not over the batch.
      max_size: largest size over the whole training set.
      min_shift: shift at `min_size`, in the unit of a temperature.
      max_shift: shift at `max_size`.

    Returns:
      float32 shifts, of the shape of `sizes`.

    Source: MM-TS (arXiv 2603.08202), individual cluster shift.

    >>> sizes = jnp.array([2, 27, 52])
    >>> shift = cluster_shift(sizes, min_size=2, max_size=52, min_shift=0.1, max_shift=0.3)
    >>> [round(float(s), 4) for s in shift]
    [0.1, 0.2, 0.3]
    """
    low = jnp.asarray(min_shift, jnp.float32)
    span = jnp.asarray(max_shift, jnp.float32) - low
    first = jnp.asarray(min_size, jnp.float32)
    width = jnp.asarray(max_size, jnp.float32) - first
    has_width = width != 0
    position = (jnp.asarray(sizes, jnp.float32) - first) / jnp.where(has_width, width, 1.0)
    return low + span * jnp.where(has_width, position, 0.0)
