"""Means and covariances of paired latents, summed in float64 over chunks of rows."""

from __future__ import annotations

import dataclasses

import numpy as np

from alignment_jax.core import Array, ConfigError

# Rows of float64 in memory at a time: 8192 x 1024 numbers are 64 MiB.
_CHUNK = 8192


@dataclasses.dataclass(frozen=True)
class Moments:
    """Means and covariances of pairs, float64.

    mean_a, mean_b: [d_a] and [d_b].
    c_aa, c_bb, c_ab: [d_a, d_a], [d_b, d_b] and [d_a, d_b].
    count: of the pairs.
    dtype: name of the type of the products that were summed.
    """

    mean_a: np.ndarray
    mean_b: np.ndarray
    c_aa: np.ndarray
    c_bb: np.ndarray
    c_ab: np.ndarray
    count: int
    dtype: str = "float64"

    def resolution(self, features: int) -> float:
        """The share of the largest eigenvalue of a covariance below which an eigenvalue is only rounding."""
        # Errors of float32 products are many and independent: they add up to the root of their number.
        worst = features if self.dtype == "float64" else np.sqrt(features)
        return float(worst * np.finfo(self.dtype).eps)


def paired_moments(za: Array, zb: Array, *, b_to_a: Array | None = None, weights: Array | None = None) -> Moments:
    """Moments over all pairs; every view of an item is paired with every view of its partner.

    Args:
      za: [n, d_a], or [v_a, n, d_a] views of n items.
      zb: [m, d_b], or [v_b, m, d_b].
      b_to_a: [m] int, the a-item of each b-item; None when row i belongs to row i (n = m).
      weights: [m] non-negative weight of every pair; None weighs all alike.

    Raises:
      ConfigError: weights out of range.
      ValueError: za, zb or b_to_a of another shape, or not finite.

    >>> za, zb = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0], [4.0]])
    >>> found = paired_moments(za, zb, b_to_a=np.array([0, 0, 1]))
    >>> [round(float(x.item()), 3) for x in (found.mean_a, found.mean_b, found.c_ab)]
    [0.667, 2.0, 1.333]
    """
    za, zb = as_views("za", za), as_views("zb", zb)
    n, m = za.shape[1], zb.shape[1]
    owner = check_owner(n, m, b_to_a)
    for name, z in (("za", za), ("zb", zb)):
        if not np.any(z != z[0, 0]):
            raise ValueError(f"{name} must vary between rows, but all rows are equal")
    share = _shares(weights, m)
    share_a = np.bincount(owner, share, minlength=n)
    mean_a, mean_b = (
        np.einsum("n,vnd->d", w, z, dtype=np.float64) / z.shape[0] for w, z in ((share_a, za), (share, zb))
    )
    # C_ab from the views' means, which equals the mean over all pairs of views; b-items are taken in the order of
    # their a-items, so that a chunk of pairs reads few rows of each side.
    order = np.argsort(owner, kind="stable")
    c_ab = np.zeros((za.shape[2], zb.shape[2]))
    for start in range(0, m, _CHUNK):
        rows = order[start : start + _CHUNK]
        a = za[:, owner[rows]].mean(axis=0, dtype=np.float64) - mean_a
        c_ab += (a * share[rows, None]).T @ (zb[:, rows].mean(axis=0, dtype=np.float64) - mean_b)
    return Moments(mean_a, mean_b, _covariance(za, mean_a, share_a), _covariance(zb, mean_b, share), c_ab, count=m)


def _covariance(z: np.ndarray, mean: np.ndarray, share: np.ndarray) -> np.ndarray:
    total = np.zeros((z.shape[2], z.shape[2]))
    for start in range(0, z.shape[1], _CHUNK):
        rows = slice(start, start + _CHUNK)
        root = np.sqrt(share[rows])[:, None]
        for view in z[:, rows]:
            centred = (view - mean) * root
            total += centred.T @ centred
    return total / len(z)


def check_owner(n: int, m: int, b_to_a: Array | None) -> np.ndarray:
    """[m] int: the a-item of each b-item.

    Raises:
      ValueError: another shape, or a number outside [0, n).
    """
    owner = np.arange(n) if b_to_a is None else np.asarray(b_to_a)
    if b_to_a is None and n != m:
        raise ValueError(f"za and zb must have the same number of rows, got {n} and {m}")
    if owner.shape != (m,) or owner.min() < 0 or owner.max() >= n:
        raise ValueError(f"b_to_a must hold {m} numbers in [0, {n}), one a row of zb")
    return owner


def as_views(name: str, z: Array) -> np.ndarray:
    """[v, n, d]: latents [n, d] or views of them.

    Raises:
      ValueError: another shape, or not finite.
    """
    z = np.asarray(z)
    if z.ndim == 2:
        z = z[None]
    if z.ndim != 3 or 0 in z.shape or z.shape[1] < 2:
        raise ValueError(f"{name} must have shape [n, d] or [views, n, d] with at least 2 rows, got {z.shape}")
    if not np.all(np.isfinite(z)):
        view, row = np.argwhere(~np.isfinite(z).all(axis=2))[0]
        raise ValueError(f"{name} must be finite, but row {row} of view {view} is not")
    return z


def _shares(weights: Array | None, n: int) -> np.ndarray:
    if weights is None:
        return np.full(n, 1.0 / n)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (n,) or not np.all(weights >= 0) or not 0 < weights.sum() < np.inf:
        raise ConfigError(f"weights must be {n} non-negative numbers with a positive sum, one a pair")
    return weights / weights.sum()
