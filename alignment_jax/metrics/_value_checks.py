"""Checks of the metrics' arguments: traced, finite, class numbers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array


def traced(*arrays: Any) -> bool:
    """Whether any of the arrays is a tracer, as under jit, vmap or grad."""
    return any(isinstance(x, jax.core.Tracer) for x in arrays)


def namespace(*arrays: Any) -> ModuleType:
    """`jax.numpy` for traced arrays, NumPy (and so float64) for concrete ones."""
    return jnp if traced(*arrays) else np


def scalar(x: Any) -> Any:
    """A Python float, which JSON can hold, unless the value is traced."""
    return x if traced(x) else float(x)


def embeddings(name: str, z: Array) -> jax.Array:
    """float32 [n, d]; concrete values are checked to be finite."""
    check_embeddings(name, z)
    z = jnp.asarray(z, jnp.float32)
    check_finite_rows(name, z)
    return z


def check_embeddings(name: str, z: Array) -> None:
    """Raises ValueError unless the shape is [n, d]."""
    if np.ndim(z) != 2 or 0 in np.shape(z):
        raise ValueError(f"{name} must have shape [n, d] with n, d >= 1, got {np.shape(z)}")


def check_finite_rows(name: str, z: Array) -> None:
    """Raises ValueError for concrete values that are not finite; host arrays are checked on the host."""
    if traced(z):
        return
    if isinstance(z, jax.Array):
        # Also where the other side is traced: a gallery may be a constant of a compiled search.
        with jax.ensure_compile_time_eval():
            finite = np.asarray(_finite_rows(z))
    else:
        finite = np.asarray(np.isfinite(np.asarray(z, np.float32)).all(axis=1))
    if not finite.all():
        raise ValueError(f"{name} is not finite in row {int(finite.argmin())} ({int((~finite).sum())} such rows)")


def class_numbers(name: str, labels: Array, *, length: int, classes: int, of: str) -> Array:
    """int [length]; concrete values are checked to be in [0, classes)."""
    dtype = getattr(labels, "dtype", None)
    x = labels if dtype is not None else np.asarray(labels)
    if np.shape(x) != (length,) or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"{name} must be {length} integers, one for each {of}, got shape {np.shape(x)} of {x.dtype}")
    if not traced(x):
        values = np.asarray(x)
        outside = np.flatnonzero((values < 0) | (values >= classes))
        if outside.size:
            raise ValueError(f"{name}[{outside[0]}] is {values[outside[0]]}, outside [0, {classes})")
        # Checked first, because narrowing would wrap a number that is far out of range back into it.
        return values.astype(np.int32)
    return x.astype(jnp.int32)


def class_scores(scores: Array, labels: Array) -> tuple[Any, Any, ModuleType]:
    """Scores [n, c], labels [n] and the module of their functions; concrete values are checked."""
    if np.ndim(scores) != 2 or 0 in np.shape(scores):
        raise ValueError(f"scores must have shape [n, c] with n, c >= 1, got {np.shape(scores)}")
    n, c = np.shape(scores)
    labels = class_numbers("labels", labels, length=n, classes=c, of="row of scores")
    xp = namespace(scores, labels)
    scores = xp.asarray(scores)
    if not traced(scores):
        broken = np.isnan(scores).any(axis=1)
        if broken.any():
            raise ValueError(f"scores is NaN in row {int(broken.argmax())} ({int(broken.sum())} such rows)")
    return scores, labels, xp


@jax.jit
def _finite_rows(z: jax.Array) -> jax.Array:
    return jnp.isfinite(z).all(axis=1)
