"""Embeddings of all items of one side, from an encode function and padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np


def embed_items(encode: Callable[[Any], Any], batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Runs `encode` over batches and drops the padding.

    Args:
      encode: [k, ...] -> embeddings [k, d].
      batches: (items [k, ...], where [k] bool) with one k for all, so that `encode` compiles once.

    Returns:
      float32 [n, d], n the number of rows whose `where` is true, in order.

    >>> batches = [(np.ones((2, 3)), np.array([True, False]))]
    >>> embed_items(lambda x: x, batches).shape
    (1, 3)
    """
    return np.concatenate([np.asarray(encode(items), np.float32)[where] for items, where in batches])


def mean_direction(views: Sequence[np.ndarray]) -> np.ndarray:
    """Normalised mean of several embeddings of the same items: float32 [..., n, d].

    Args:
      views: at least one array [..., n, d] with rows of length one.

    >>> mean_direction([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])])
    array([[0.707..., 0.707...]], dtype=float32)
    """
    total = np.sum([np.asarray(view, np.float64) for view in views], axis=0)
    return (total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)).astype(np.float32)
