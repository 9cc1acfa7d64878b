"""Distinct items: rows of equal content are one item."""

from __future__ import annotations

import dataclasses

import numpy as np

from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.types import Array


@dataclasses.dataclass(frozen=True)
class DistinctItems:
    """The distinct items of both sides and the pairs between them; an item may have several partners on either side.

    Attributes:
      rows_a, rows_b: int64 [N], [M], the first row of every distinct item, in the order of the rows.
      pair_a, pair_b: int64 [p], the pairs in numbers of items, each pair once, ordered by `pair_a`.
      item_a, item_b: int64 [n], [m], the number of each row's item.
    """

    rows_a: np.ndarray
    rows_b: np.ndarray
    pair_a: np.ndarray
    pair_b: np.ndarray
    item_a: np.ndarray
    item_b: np.ndarray

    def belong(self, item_a: Array, item_b: Array) -> np.ndarray:
        """bool, whether item_a[...] and item_b[...] (numbers of items, broadcast) are a pair.

        >>> found = distinct_items(np.array([0, 1]), n_a=2)
        >>> found.belong(np.array([0, 1]), 1).tolist()
        [False, True]
        """
        known = self.pair_a * len(self.rows_b) + self.pair_b
        asked = np.asarray(item_a, np.int64) * len(self.rows_b) + np.asarray(item_b, np.int64)
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return known[place] == asked


@renamed_keywords(a_of_b="b_to_a")
def distinct_items(b_to_a: Array, *, n_a: int, ids_a: Array | None = None, ids_b: Array | None = None) -> DistinctItems:
    """Collapses rows of equal content.

    Args:
      b_to_a: [m] integers in [0, n_a), the a-row that each b-row belongs to.
      n_a: number of a-rows n.
      ids_a: [n] integers, equal where two a-rows are the same item; None where all differ.
      ids_b: [m] integers, the same for b-rows.

    Returns:
      The items, and a pair of items wherever any of their rows are a pair.

    Raises:
      ValueError: a shape disagrees or b_to_a is out of range.

    >>> found = distinct_items(np.array([0, 1, 2]), n_a=3, ids_b=np.array([7, 7, 8]))
    >>> found.rows_b.tolist(), list(zip(found.pair_a.tolist(), found.pair_b.tolist()))
    ([0, 2], [(0, 0), (1, 0), (2, 1)])
    """
    owner = np.asarray(b_to_a)
    if owner.ndim != 1 or not np.issubdtype(owner.dtype, np.integer):
        raise ValueError(f"b_to_a must be integers [m], got shape {owner.shape} of {owner.dtype}")
    if owner.size and not 0 <= owner.min() <= owner.max() < n_a:
        raise ValueError(f"b_to_a must be in [0, {n_a}), got {owner.min()} to {owner.max()}")
    rows_a, item_a = _numbered("ids_a", ids_a, n_a)
    rows_b, item_b = _numbered("ids_b", ids_b, len(owner))
    pairs = np.unique(item_a[owner.astype(np.int64)] * len(rows_b) + item_b)
    return DistinctItems(rows_a, rows_b, pairs // len(rows_b), pairs % len(rows_b), item_a, item_b)


def _numbered(name: str, ids: Array | None, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First row of every id, and the number of each row's id in the order of these rows."""
    if ids is None:
        return np.arange(length), np.arange(length)
    if np.shape(ids) != (length,):
        raise ValueError(f"{name} must be {length} integers, one for each row, got shape {np.shape(ids)}")
    return number_items(np.asarray(ids))


def number_items(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of every id, in order, and int64 [n], the number of each row's id in the order of these rows.

    Args:
      ids: [n], equal where rows are the same item.

    >>> first, number = number_items(np.array([7, 3, 7]))
    >>> first.tolist(), number.tolist()
    ([0, 1], [0, 1, 0])
    """
    if (ids[1:] > ids[:-1]).all():  # no repetition; the sort below takes seconds for millions
        return np.arange(len(ids)), np.arange(len(ids))
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(first), np.int64)
    number[order] = np.arange(len(first))
    return first[order], number[inverse.reshape(-1)]
