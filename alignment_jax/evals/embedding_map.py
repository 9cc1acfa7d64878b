"""t-SNE of both modalities, and the modality gap."""

from __future__ import annotations

from typing import Any

import numpy as np

from alignment_jax.core.optional import require
from alignment_jax.core.types import Array

# As in VALS.
PERPLEXITIES = (5, 10, 30, 50)


def embedding_map(za: Array, zb: Array, *, perplexity: float = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """t-SNE of both sides of n pairs in one plane.

    Args:
      za, zb: [n, d] embeddings; row i of one belongs to row i of the other.
      perplexity: effective number of neighbours; `PERPLEXITIES` are those of VALS.
      seed: of the optimisation; the same seed gives the same map.

    Returns:
      float32 [n, 2] for each side.

    Raises:
      ValueError: shapes differ, or perplexity is not in [1, 2 n).
      MissingPackageError: scikit-learn is not installed.

    >>> rng = np.random.default_rng(0)
    >>> a, b = embedding_map(rng.standard_normal((6, 4)), rng.standard_normal((6, 4)), perplexity=5)
    >>> a.shape, b.shape
    ((6, 2), (6, 2))

    Source: van der Maaten and Hinton (2008); VALS (Pillai 2025) shows such maps before and after training.
    """
    a, b = np.asarray(za, np.float32), np.asarray(zb, np.float32)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"za and zb must have the same shape [n, d], got {a.shape} and {b.shape}")
    if not 1 <= perplexity < 2 * len(a):
        raise ValueError(f"perplexity must be in [1, {2 * len(a)}) for {len(a)} pairs, got {perplexity}")
    manifold: Any = require("sklearn.manifold", extra="train", purpose="draw maps of embeddings")
    control = require("threadpoolctl", extra="train", purpose="draw the same map in every run")
    with control.threadpool_limits(1):
        tsne = manifold.TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
        plane = tsne.fit_transform(np.concatenate([a, b]))
    return plane[: len(a)].astype(np.float32), plane[len(a) :].astype(np.float32)


def modality_gap(za: Array, zb: Array) -> float:
    """The distance between the mean embeddings of the two sides.

    >>> modality_gap(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]]))
    1.0

    Source: Liang et al., "Mind the gap" (NeurIPS 2022).
    """
    return float(np.linalg.norm(np.mean(np.asarray(za, np.float64), 0) - np.mean(np.asarray(zb, np.float64), 0)))
