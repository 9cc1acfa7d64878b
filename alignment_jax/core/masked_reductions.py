"""Masked sums, counts and means, on one device or over a mesh axis.

Under uneven masks a mean of means is wrong: these are sums of sums over sums of counts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array


def psum_if(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Sum over `axis_name`, or `x` itself when there is no axis."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def masked_sum(x: Array, where: Array | None = None, *, axis_name: str | None = None) -> jax.Array:
    """Sum of the rows of `x` [n, ...] whose `where` is true, over the axis; float32.

    Masked rows are replaced by zero before the sum, so that a NaN in one of them reaches neither value nor gradient.

    >>> float(masked_sum(jnp.array([1.0, jnp.nan]), jnp.array([True, False])))
    1.0
    """
    x = jnp.asarray(x, jnp.float32)
    if where is not None:
        mask = jnp.asarray(where).reshape((-1,) + (1,) * (x.ndim - 1))
        x = jnp.where(mask, x, 0.0)
    return psum_if(jnp.sum(x, axis=0), axis_name)


def masked_count(x: Array, where: Array | None = None, *, axis_name: str | None = None) -> jax.Array:
    """Number of rows that count, over the axis, as a float32 scalar."""
    if where is None:
        # A sum over zeros of x, not a constant: under shard_map it then varies over the axis exactly as x does.
        ones = jnp.ones_like(jnp.asarray(x, jnp.float32).reshape(x.shape[0], -1)[:, 0])
        return psum_if(jnp.sum(ones), axis_name)
    return psum_if(jnp.sum(jnp.asarray(where, jnp.float32)), axis_name)


def masked_mean(x: Array, where: Array | None = None, *, axis_name: str | None = None) -> jax.Array:
    """Mean over the rows that count, over the axis; 0 when no row counts.

    >>> float(masked_mean(jnp.array([1.0, 3.0, 100.0]), jnp.array([True, True, False])))
    2.0
    """
    total = masked_sum(x, where, axis_name=axis_name)
    count = masked_count(jnp.asarray(x), where, axis_name=axis_name)
    return total / jnp.maximum(count, 1.0)
