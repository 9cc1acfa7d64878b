"""Numbers rows of equal bytes, by their hashes; equal hashes are verified."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from alignment_jax.core.distinct_items import number_items

_ROWS = 1 << 16  # read at a time
# indices [k] -> the rows as bytes, uint8 [k, w].
Rows = Callable[[np.ndarray], np.ndarray]


def number_equal_rows(columns: Sequence[tuple[Rows, int]]) -> list[np.ndarray] | None:
    """For each column int64 [n]: rows, also of different columns, share a number if their bytes are equal.

    The numbers are 0, 1, ... in the order of first occurrence.

    Args:
      columns: the rows of each, all of one width, and how many.

    Returns:
      The numbers, or None where different rows have the same hash: for 10 million rows with a chance of 3e-6.

    >>> one, other = (np.array(x, np.uint8)[:, None] for x in ([7, 8, 7], [9, 8]))
    >>> [found.tolist() for found in number_equal_rows([(one.__getitem__, 3), (other.__getitem__, 2)])]
    [[0, 1, 0], [2, 1]]
    """
    hashes = [_hash(rows(index)) for rows, count in columns for index in _chunks(np.arange(count))]
    if not hashes:
        return [np.zeros(0, np.int64) for _ in columns]
    found = np.concatenate(hashes)
    ends = np.cumsum([0, *(count for _, count in columns)])
    ascending = np.sort(found)
    if (ascending[1:] != ascending[:-1]).all():  # nearly always: a sort takes a tenth of what follows
        return [np.arange(start, end) for start, end in itertools.pairwise(ends)]
    first, numbers = number_items(found)
    for index in _chunks(np.flatnonzero(first[numbers] != np.arange(len(numbers)))):
        if not np.array_equal(_read(columns, ends, index), _read(columns, ends, first[numbers[index]])):
            return None
    return [numbers[start:end] for start, end in itertools.pairwise(ends)]


def _chunks(index: np.ndarray) -> list[np.ndarray]:
    return [index[i : i + _ROWS] for i in range(0, len(index), _ROWS)]


def _read(columns: Sequence[tuple[Rows, int]], ends: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows of all columns, one after the other, by their common numbers."""
    which = np.searchsorted(ends, index, side="right") - 1
    found: np.ndarray | None = None
    for k, (rows, _) in enumerate(columns):
        own = which == k
        if own.any():
            part = rows(index[own] - ends[k])
            found = np.empty((len(index), part.shape[1]), np.uint8) if found is None else found
            found[own] = part
    assert found is not None
    return found


def _hash(rows: np.ndarray) -> np.ndarray:
    """uint64 [k] of bytes [k, w]: a chain of multiplications, so that the order of the columns counts."""
    words = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    words[:, : rows.shape[1]] = rows
    mixed = np.full(len(rows), rows.shape[1], np.uint64)
    for word in words.view(np.uint64).T:
        mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    return mixed
