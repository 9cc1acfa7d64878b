"""Unit length for embeddings, with a gradient that stays finite for a zero vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array


def l2_normalize(z: Array, eps: float = 1e-12) -> jax.Array:
    """Scales every vector to length one: z / ||z||_2 along the last axis; float32 out, also for bfloat16 in.

    A vector not longer than `eps` becomes the zero vector and passes no gradient. Deviation: dividing by
    max(||z||, eps), as PyTorch's `normalize` does, multiplies the gradient by 1 / eps = 1e12 there: finite, but one
    such row outweighs the whole batch.

    Args:
      z: [..., d] vectors, in any unit.
      eps: length at or below which a vector counts as zero, in the unit of `z`.

    Returns:
      [..., d] float32 vectors of length one (or zero).

    >>> l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6..., 0.8...], [0.0, 0.0]]
    """
    z = jnp.asarray(z, jnp.float32)
    # The square of 2e19 overflows, and in the gradient the cube of 7e12. Scaling by a power of two, and only where it
    # is needed, changes no bit of other rows.
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(z)), axis=-1, keepdims=True, initial=0.0)
    _, exponent = jnp.frexp(largest)
    unit = jnp.where(largest > 2.0**30, jnp.ldexp(jnp.float32(1.0), 20 - exponent), jnp.float32(1.0))
    z = z * unit
    squared = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    long_enough = squared > eps * eps * jnp.square(unit)
    # The inner `where` keeps rsqrt away from zero, where its derivative is infinite and 0 * inf would be NaN.
    inverse_length = jnp.where(long_enough, jax.lax.rsqrt(jnp.where(long_enough, squared, 1.0)), 0.0)
    return z * inverse_length
