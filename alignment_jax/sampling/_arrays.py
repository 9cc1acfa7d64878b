"""Checked conversion of arguments, and independent random streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax.core.types import Array

# One stream per purpose: an order drawn with the same seed and epoch must not be correlated with another one.
SHUFFLE, CURRICULUM, DRAW, BALANCED = range(4)


def generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """A counter-based generator, a function of (seed, epoch, stream) alone."""
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


def array_namespace(*arrays: Any) -> Any:
    """The module of functions for these arrays: that of the first one that is not NumPy's, else NumPy."""
    for x in arrays:
        if hasattr(x, "__array_namespace__") and not isinstance(x, np.ndarray | np.generic):
            return x.__array_namespace__()
    return np


def matrices(name: str, values: Sequence[Array], *, at_least: int) -> list[Any]:
    """[n, d] matrices of one shape, one per modality: finite float64 of NumPy, or float32 of another namespace.

    Values outside NumPy are not checked: under `jax.jit` they are unknown.
    """
    if getattr(values, "ndim", 3) < 3:
        raise ValueError(f"{name} must be a sequence of [n, d] arrays, one per modality, got shape {np.shape(values)}")
    xp = array_namespace(*values)
    parts = [xp.asarray(part, dtype=xp.float64 if xp is np else xp.float32) for part in values]
    if len(parts) < at_least:
        raise ValueError(f"{name} must hold at least {at_least} modalities, got {len(parts)}")
    for i, part in enumerate(parts):
        if part.ndim != 2 or 0 in part.shape:
            raise ValueError(f"{name}[{i}] must have shape [n, d] with n, d >= 1, got {part.shape}")
        if part.shape != parts[0].shape:
            raise ValueError(f"{name}[{i}] must have the shape of {name}[0], {parts[0].shape}, got {part.shape}")
        if xp is np:
            finite(f"{name}[{i}]", part)
    return parts


def masks(present: Sequence[Array | None] | None, parts: list[Any]) -> list[Any] | None:
    """One bool [n] or None for each part; None where no part has a mask."""
    if present is None or all(mask is None for mask in present):
        return None
    if len(present) != len(parts):
        raise ValueError(f"present must hold one entry per array: expected {len(parts)}, got {len(present)}")
    xp, n = array_namespace(*parts), len(parts[0])
    found = [None if mask is None else xp.asarray(mask, dtype=bool) for mask in present]
    for i, mask in enumerate(found):
        if mask is not None and mask.shape != (n,):
            raise ValueError(f"present[{i}] must have shape [{n}], got {mask.shape}")
    return found


def finite(name: str, x: np.ndarray) -> None:
    """Raises ValueError naming the first sample that holds a NaN or an infinity."""
    good = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not good.all():
        bad = np.flatnonzero(~good)
        raise ValueError(f"{name} is not finite for sample {bad[0]} ({len(bad)} of {len(x)} samples are not)")
