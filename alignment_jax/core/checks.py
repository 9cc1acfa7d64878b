"""Checks of arguments at trace time; every message names the argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array


def check_pair(za: Array, zb: Array, where: Array | None = None) -> None:
    """Raises ValueError unless za and zb are floating [n, d] of one shape, n >= 1, and where is [n] bool (or None)."""
    for name, z in (("za", za), ("zb", zb)):
        _check(lambda z=z: chex.assert_rank(z, 2), name, f"must have shape [n, d], got {jnp.shape(z)}")
        if not jnp.issubdtype(jnp.result_type(z), jnp.floating):
            raise ValueError(f"{name} must be floating point, got {jnp.result_type(z)}")
    _check(
        lambda: chex.assert_equal_shape([za, zb]),
        "za and zb",
        f"must have the same shape [n, d], got {jnp.shape(za)} and {jnp.shape(zb)}",
    )
    if za.shape[0] == 0:
        raise ValueError(f"za must have at least one row, got shape {jnp.shape(za)}")
    check_where(where, za.shape[0])


def check_where(where: Array | None, n: int) -> None:
    """Raises ValueError unless where is None or a boolean vector of length n."""
    if where is None:
        return
    _check(lambda: chex.assert_shape(where, (n,)), "where", f"must have shape [{n}], got {jnp.shape(where)}")
    if jnp.result_type(where) != jnp.bool_:
        raise ValueError(f"where must be boolean, got {jnp.result_type(where)}")


def check_scalar_or_rows(name: str, value: Array | float, n: int) -> None:
    """Raises ValueError unless value is a scalar or a vector of length n."""
    shape = jnp.shape(value)
    if shape not in ((), (n,)):
        raise ValueError(f"{name} must be a scalar or have shape [{n}], got {shape}")


def check_number(name: str, value: Array | float, holds: Callable[[Any], bool], meaning: str) -> None:
    """Raises ValueError when a concrete scalar breaks a rule: a Python or NumPy number, or a JAX scalar.

    Traced values and arrays with axes are not checked, so that compiled code never synchronises with the device.
    """
    number = isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)) and np.ndim(value) == 0
    # Through NumPy, because a comparison of a concrete JAX scalar would itself be traced under jit.
    if number and not isinstance(value, jax.core.Tracer) and not holds(np.asarray(value).astype(np.float64)):
        raise ValueError(f"{name} must be {meaning}, got {value}")


def _check(assertion, name: str, message: str) -> None:
    try:
        assertion()
    except AssertionError as error:
        raise ValueError(f"{name} {message}") from error
