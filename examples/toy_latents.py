"""Pairs of latents that share a hidden code, so that every example has something to learn in a second."""

from __future__ import annotations

import numpy as np

import alignment_jax as aj


def make(n: int = 512, *, dim_a: int = 48, dim_b: int = 32, code: int = 8, noise: float = 1.0, seed: int = 0):
    """(a [n, dim_a], b [n, dim_b], cluster_size [n]), float32. Codes come from clusters of very unequal sizes."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centers = world.normal(size=(8, code))
    to_a, to_b = world.normal(size=(code, dim_a)), world.normal(size=(code, dim_b))
    cluster = rng.choice(8, size=n, p=np.array([128, 64, 32, 16, 8, 4, 2, 1]) / 255)
    codes = centers[cluster] + rng.normal(size=(n, code))
    a = codes @ to_a + noise * rng.normal(size=(n, dim_a))
    b = codes @ to_b + noise * rng.normal(size=(n, dim_b))
    size = np.bincount(cluster, minlength=8)[cluster]
    return a.astype(np.float32), b.astype(np.float32), size.astype(np.float32)


def recall(za, zb) -> float:
    """R@1 in %, mean of both directions, for rows that are pairs."""
    found = aj.metrics.retrieval_recall(za, zb, np.arange(len(za)), ks=(1,))
    return float(found["rsum"]) / 2
