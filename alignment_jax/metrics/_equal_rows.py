"""Bitwise equal rows of a matrix, without an n x n comparison or a copy of the matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.metrics._square_tiles import stack_tiles


def row_hashes(z: jax.Array, tile: int) -> tuple[jax.Array, jax.Array]:
    """Two independent 32-bit hashes of every row of `z` [n, d]; for a million distinct rows a false match of both has a
    chance of 3e-8.
    """
    first, second = jax.lax.map(_hashes, stack_tiles(z, tile))
    return first.reshape(-1)[: len(z)], second.reshape(-1)[: len(z)]


def number_distinct(first: jax.Array, second: jax.Array) -> jax.Array:
    """int32 [n], equal exactly where both hashes [n] are equal."""
    order = jnp.lexsort((second, first))
    f, s = first[order], second[order]
    fresh = jnp.concatenate([jnp.zeros(1, bool), (f[1:] != f[:-1]) | (s[1:] != s[:-1])])
    return jnp.zeros(len(first), jnp.int32).at[order].set(jnp.cumsum(fresh, dtype=jnp.int32))


def _hashes(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    # 0.0 and -0.0 are one number with two bit patterns.
    bits = jax.lax.bitcast_convert_type(jnp.where(rows == 0, 0.0, rows), jnp.uint32)
    return _hash(bits, 0x9E3779B9), _hash(bits, 0x85EBCA6B)


def _hash(bits: jax.Array, salt: int) -> jax.Array:
    """A sum over columns of mixed bits; the salt of a column makes the sum depend on the columns' order."""
    columns = jnp.arange(1, bits.shape[1] + 1, dtype=jnp.uint32) * jnp.uint32(salt)
    return jnp.sum(_mix(bits ^ _mix(columns)), axis=1, dtype=jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: every input bit changes every output bit with a chance of one half."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
