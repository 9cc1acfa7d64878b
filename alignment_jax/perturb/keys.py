"""Random keys per row, independent of the division of a batch over devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array


def row_keys(key: jax.Array, rows: Array) -> jax.Array:
    """One key for every row: key_i = fold_in(key, rows_i).

    With each row's position in the *global* batch as `rows`, draws from these keys are the same on any number of
    devices, also after a restart on another number.

    Args:
      key: one typed key (`jax.random.key`) or one raw key (`jax.random.PRNGKey`).
      rows: [n] integers, usually the positions in the global batch.

    Returns:
      [n] typed keys, or [n, k] raw keys, for `gaussian`.

    Raises:
      ValueError: key is not a single key, or rows is not a vector of integers.

    >>> keys = row_keys(jax.random.key(0), jnp.arange(4))
    >>> keys.shape
    (4,)
    >>> bool(keys[3] == row_keys(jax.random.key(0), jnp.array([3]))[0])
    True
    """
    if is_per_row(key):
        raise ValueError("key must be a single key, got an array of keys")
    rows = jnp.asarray(rows)
    if rows.ndim != 1 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise ValueError(f"rows must be a vector of integers, got {rows.dtype} of shape {rows.shape}")
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def is_per_row(key: jax.Array) -> bool:
    """Whether `key` is an array of keys, [n] typed or [n, k] raw, rather than a single one."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and key.dtype != jnp.uint32:
        raise ValueError(f"key must be a key or an array of keys, got {key.dtype} of shape {key.shape}")
    rank = key.ndim if typed else key.ndim - 1  # a raw key is itself a vector
    if rank not in (0, 1):
        raise ValueError(f"key must be one key or one key a row, got shape {key.shape}")
    return rank == 1
