"""Rows of equal content are one item: which rows stand for the items, and which items belong together."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.metrics._arrays import class_numbers


@dataclasses.dataclass(frozen=True)
class DistinctItems:
    """The distinct items of both sides and the pairs between them; an item may have several partners on either side.

    Attributes:
      rows_a, rows_b: int64 [N], [M], the first row of every distinct item, in the order of the rows.
      pair_a, pair_b: int64 [p], the pairs in numbers of items, each pair once, ordered by `pair_a`.
    """

    rows_a: np.ndarray
    rows_b: np.ndarray
    pair_a: np.ndarray
    pair_b: np.ndarray


def distinct_items(a_of_b: Array, *, n_a: int, ids_a: Array | None = None, ids_b: Array | None = None) -> DistinctItems:
    """Collapses rows of equal content.

    Args:
      a_of_b: [m] integers in [0, n_a), the a-row that each b-row belongs to.
      n_a: number of a-rows n.
      ids_a: [n] integers, equal where two a-rows are the same item; None where all differ.
      ids_b: [m] integers, the same for b-rows.

    Returns:
      The items, and a pair of items wherever any of their rows are a pair.

    Raises:
      ValueError: a shape disagrees or a_of_b is out of range.

    >>> found = distinct_items(np.array([0, 1, 2]), n_a=3, ids_b=np.array([7, 7, 8]))
    >>> found.rows_b.tolist(), list(zip(found.pair_a.tolist(), found.pair_b.tolist()))
    ([0, 2], [(0, 0), (1, 0), (2, 1)])
    """
    owner = np.asarray(class_numbers("a_of_b", a_of_b, length=len(a_of_b), classes=n_a, of="b-row")).astype(np.int64)
    rows_a, item_a = _numbered(content_ids("ids_a", ids_a, n_a))
    rows_b, item_b = _numbered(content_ids("ids_b", ids_b, len(owner)))
    pairs = np.unique(item_a[owner] * len(rows_b) + item_b)
    return DistinctItems(rows_a, rows_b, pairs // len(rows_b), pairs % len(rows_b))


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


def _numbered(ids: Array) -> tuple[np.ndarray, np.ndarray]:
    """First row of every id, and the number of each row's id in the order of these rows."""
    _, first, inverse = np.unique(np.asarray(ids), return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(first), np.int64)
    number[order] = np.arange(len(first))
    return first[order], number[inverse.reshape(-1)]
