"""Checked conversion of the inputs to float64, and random streams that do not touch one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# One stream per purpose: an order drawn with the same seed and epoch must not be correlated with another one.
SHUFFLE, CURRICULUM, DRAW, BALANCED = range(4)


def generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """A counter-based generator that is a function of (seed, epoch, stream) and of nothing else."""
    for name, value in (("seed", seed), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} must be a non-negative integer, got {value!r}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([int(seed), int(epoch), stream])))


def vector(name: str, values: np.ndarray | Sequence[float], *, length: int | None = None) -> np.ndarray:
    """float64 [n], finite and not empty; the error names the argument and the first bad sample."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"{name} must have shape [n] with n >= 1, got {x.shape}")
    if length is not None and x.size != length:
        raise ValueError(f"{name} must have one value per sample: expected {length}, got {x.size}")
    finite(name, x)
    return x


def matrices(name: str, values: Sequence[np.ndarray], *, at_least: int) -> list[np.ndarray]:
    """float64 [n, d] matrices of one shape, one per modality, finite."""
    if isinstance(values, np.ndarray) and values.ndim < 3:
        raise ValueError(f"{name} must be a sequence of [n, d] arrays, one per modality, got shape {values.shape}")
    parts = [np.asarray(part, dtype=np.float64) for part in values]
    if len(parts) < at_least:
        raise ValueError(f"{name} must hold at least {at_least} modalities, got {len(parts)}")
    for i, part in enumerate(parts):
        if part.ndim != 2 or part.size == 0:
            raise ValueError(f"{name}[{i}] must have shape [n, d] with n, d >= 1, got {part.shape}")
        if part.shape != parts[0].shape:
            raise ValueError(f"{name}[{i}] must have the shape of {name}[0], {parts[0].shape}, got {part.shape}")
        finite(f"{name}[{i}]", part)
    return parts


def finite(name: str, x: np.ndarray) -> None:
    """Raises ValueError naming the first sample that holds a NaN or an infinity."""
    good = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not good.all():
        bad = np.flatnonzero(~good)
        raise ValueError(f"{name} is not finite for sample {bad[0]} ({len(bad)} of {len(x)} samples are not)")
