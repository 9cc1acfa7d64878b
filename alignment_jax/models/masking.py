"""Padding: rows of a batch and tokens of a text."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array

PAD_ID = 0


def zero_padded_rows(x: Array, where: Array | None) -> jax.Array:
    """Zeroes the rows of `x` [n, ...] whose `where` is false.

    Losses ignore padded rows, but a NaN in one would reach the gradient of the weights, because 0 * NaN is NaN.

    >>> zero_padded_rows(jnp.array([[1.0], [jnp.nan]]), jnp.array([True, False])).tolist()
    [[1.0], [0.0]]
    """
    x = jnp.asarray(x)
    if where is None:
        return x
    return jnp.where(jnp.reshape(where, (-1,) + (1,) * (x.ndim - 1)), x, jnp.zeros_like(x))


def token_mask(tokens: Array) -> jax.Array:
    """[n, L] bool, true where the token is not padding (id 0).

    >>> token_mask(jnp.array([[5, 7, 0]])).tolist()
    [[True, True, False]]
    """
    return jnp.asarray(tokens) != PAD_ID


def last_token(mask: Array) -> jax.Array:
    """[n] int32, the position of the last true entry of each row of `mask` [n, L]; 0 for an empty text.

    >>> last_token(jnp.array([[True, True, False], [False, False, False]])).tolist()
    [1, 0]
    """
    positions = jnp.arange(mask.shape[1], dtype=jnp.int32)
    return jnp.max(jnp.where(mask, positions, 0), axis=1)


def masked_token_mean(x: Array, mask: Array) -> jax.Array:
    """Mean over the true tokens: x [n, L, d], mask [n, L] -> [n, d] float32; zero for an empty text.

    >>> masked_token_mean(jnp.array([[[2.0], [4.0], [9.0]]]), jnp.array([[True, True, False]])).tolist()
    [[3.0]]
    """
    kept = jnp.where(mask[..., None], x.astype(jnp.float32), 0.0)
    return jnp.sum(kept, axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)[:, None]


def take_token(x: Array, positions: Array) -> jax.Array:
    """Token `positions` [n] of each row: x [n, L, d] -> [n, d].

    >>> take_token(jnp.array([[[2.0], [4.0], [9.0]]]), jnp.array([1])).tolist()
    [[4.0]]
    """
    return jnp.take_along_axis(x, positions[:, None, None], axis=1)[:, 0]
