"""Ids of items under a JAX transformation, where the number of distinct items is unknown."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array


def content_ids(name: str, ids: Array | None, length: int) -> Array:
    """Integers [length], equal where rows are the same item; the row numbers without `ids`."""
    if ids is None:
        return np.arange(length, dtype=np.int32)
    dtype = getattr(ids, "dtype", None)
    ids = ids if dtype is not None else np.asarray(ids)
    if np.shape(ids) != (length,) or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be {length} integers, one for each row, got shape {np.shape(ids)} of {ids.dtype}"
        )
    return ids


def first_rows(ids: jax.Array) -> jax.Array:
    """int32 [n], the first row with the same id as each row.

    >>> first_rows(jnp.array([5, 2, 5, 2, 9])).tolist()
    [0, 1, 0, 1, 4]
    """
    order = jnp.argsort(ids, stable=True)
    placed = ids[order]
    fresh = jnp.concatenate([jnp.ones(1, bool), placed[1:] != placed[:-1]])
    group = jnp.cumsum(fresh, dtype=jnp.int32) - 1
    start = jax.ops.segment_min(order.astype(jnp.int32), group, num_segments=len(ids), indices_are_sorted=True)
    return jnp.zeros(len(ids), jnp.int32).at[order].set(start[group])
