"""Ids without repetition: the comparison of millions of texts, once."""

from __future__ import annotations

import weakref

import numpy as np

from alignment_jax.data.disk_cache import LARGE

# Arrays of ids that were compared; a check of ten million takes seconds, and every part and copy would repeat it.
_DISTINCT: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()


def is_known_distinct(ids: np.ndarray) -> bool:
    """Whether this array was given to `remember_distinct`."""
    return _DISTINCT.get(id(ids)) is ids


def remember_distinct(ids: np.ndarray) -> np.ndarray:
    """The array, which must have no repetition; a large one becomes read-only and is not compared again."""
    if len(ids) >= LARGE:
        ids.flags.writeable = False
        _DISTINCT[id(ids)] = ids
    return ids


def row_ids(n: int) -> np.ndarray:
    """str [n]: the row numbers, which need no comparison.

    >>> row_ids(3).tolist()
    ['0', '1', '2']
    """
    width = len(str(max(0, n - 1)))
    letters = np.zeros((n, width), np.uint32)
    for length in range(1, width + 1):
        following, block = _padded(length - 1), 10 ** (length - 1)
        for first in range(length > 1, 10):
            part = letters[first * block : (first + 1) * block]
            part[:, 0] = ord("0") + first
            part[:, 1:length] = following[: len(part)]
    return remember_distinct(letters.view(f"U{width}").reshape(n))


def _padded(width: int) -> np.ndarray:
    """uint32 [10^width, width]: the letters of all numbers of this width, with leading zeros."""
    letters = np.zeros((1, 0), np.uint32)
    for _ in range(width):
        digit = np.repeat(np.arange(10, dtype=np.uint32) + ord("0"), len(letters))
        letters = np.column_stack([digit, np.tile(letters, (10, 1))])
    return letters


def all_distinct(words: np.ndarray) -> bool:
    """Whether no two entries of a str [N] array are equal.

    Compares hashes: sorting ten million strings takes minutes, their hashes a second. Equal hashes are verified.

    >>> all_distinct(np.array(["a", "b", "ab"])), all_distinct(np.array(["a", "b", "a"]))
    (True, False)
    """
    if not words.size or not words.dtype.itemsize:
        return len(words) < 2
    letters = np.ascontiguousarray(words).view(np.uint32).reshape(len(words), -1)
    mixed = np.zeros(len(words), np.uint64)
    for place in range(letters.shape[1]):
        mixed = (mixed ^ letters[:, place]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    mixed.sort()
    return bool((mixed[1:] != mixed[:-1]).all()) or len(np.unique(words)) == len(words)
