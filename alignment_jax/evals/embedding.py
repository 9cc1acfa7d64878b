"""Embeddings of all items of one side, from an encode function and padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.batch_groups import group_batches, start_ahead


def embed_items(
    encode: Callable[[Any], Any],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    padding: int | None = None,
    width: int = 1,
) -> np.ndarray:
    """Runs `encode` over batches and drops the padding.

    Args:
      encode: [width * k, ...] -> embeddings [width * k, d].
      batches: (items [k, ...], where [k] bool) with one k for all, so that `encode` compiles once.
      padding: items are rows of token ids [k, L], and `encode` does not read this id at their end. Rows are then
        encoded in order of length, at up to four lengths [k, L'], L' <= L. None: all as they are.
      width: batches that `encode` takes at once, one on each of several devices for example.

    Returns:
      float32 [n, d], n the number of rows whose `where` is true, in order.

    >>> batches = [(np.ones((2, 3)), np.array([True, False]))]
    >>> embed_items(lambda x: x, batches).shape
    (1, 3)
    """
    if padding is not None:
        batches = list(batches)
        if len(batches) > 1:
            return _embed_by_length(encode, batches, padding, width)
    groups = group_batches(batches, width)
    found = start_ahead(lambda group: encode(group[0][0]), groups)
    return np.concatenate([np.asarray(z, np.float32)[:rows][where[:rows]] for ((_, where), rows), z in found])


def _embed_by_length(encode, batches: list[tuple[np.ndarray, np.ndarray]], padding: int, width: int) -> np.ndarray:
    size, longest = batches[0][0].shape
    size *= width
    rows = np.concatenate([items[where] for items, where in batches])
    # A column more than a row's own: some towers end a text with the id that also fills it up.
    lengths = np.minimum(longest - np.argmax(rows[:, ::-1] != padding, axis=1) + 1, longest)
    order, choices = np.argsort(lengths, kind="stable"), _lengths(longest)

    def encoded(chosen: np.ndarray):
        length = choices[np.searchsorted(choices, lengths[chosen[-1]])]
        return encode(np.resize(rows[chosen], (size, longest))[:, :length])

    each = start_ahead(encoded, (order[k : k + size] for k in range(0, len(order), size)))
    return np.concatenate([np.asarray(z, np.float32)[: len(chosen)] for chosen, z in each])[np.argsort(order)]


def _lengths(longest: int) -> np.ndarray:
    """Quarters of `longest`, rounded up to a multiple of 8."""
    return np.unique(np.minimum(-(-longest * np.arange(1, 5) // 32) * 8, longest))


def mean_direction(views: Sequence[np.ndarray]) -> np.ndarray:
    """Normalised mean of several embeddings of the same items: float32 [..., n, d].

    Args:
      views: at least one array [..., n, d] with rows of length one.

    >>> mean_direction([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])])
    array([[0.707..., 0.707...]], dtype=float32)
    """
    total = np.sum([np.asarray(view, np.float64) for view in views], axis=0)
    return (total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)).astype(np.float32)
