"""Random numbers equal to those of `jax.random`, computed in one pass on a CPU.

`jax.random` computes the rounds of its generator in a loop on a CPU, to compile faster, and each turn of it writes two
arrays. Written out, the rounds are one loop over the entries of the result. Dropout of 600 x 4096 takes a sixth of the
time.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_MANTISSA_BITS = 23
_ONE = 0x3F800000  # the bits of 1.0


@functools.partial(jax.jit, static_argnums=1)
def random_bits(key: Array, shape: tuple[int, ...]) -> jax.Array:
    """As `jax.random.bits(key, shape)`: uint32.

    Other generators than "threefry2x32", and the setting `jax_threefry_partitionable=False`, are left to JAX.

    >>> key = jax.random.key(0)
    >>> bool(jnp.all(random_bits(key, (3,)) == jax.random.bits(key, (3,))))
    True

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3; Threefry-2x32 with 20 rounds.
    """
    size = math.prod(shape)
    ours = str(jax.random.key_impl(key)) == "threefry2x32" and getattr(jax.config, "jax_threefry_partitionable", True)
    if not ours or size >= 2**32:
        return jax.random.bits(key, shape)
    first, second = jax.random.key_data(key)
    high, low = _threefry(first, second, jnp.arange(size, dtype=jnp.uint32).reshape(shape))
    return high ^ low


def _threefry(first: jax.Array, second: jax.Array, counter: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two words of every counter below 2^32."""
    keys = (first, second, first ^ second ^ np.uint32(_PARITY))
    high, low = jnp.broadcast_to(keys[0], counter.shape), counter + keys[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            high = high + low
            low = high ^ ((low << np.uint32(distance)) | (low >> np.uint32(32 - distance)))
        high = high + keys[(group + 1) % 3]
        low = low + keys[(group + 2) % 3] + np.uint32(group + 1)
    return high, low


@functools.partial(jax.jit, static_argnums=1)
def uniform(key: Array, shape: tuple[int, ...] = ()) -> jax.Array:
    """As `jax.random.uniform(key, shape)`: float32 in [0, 1).

    >>> key = jax.random.key(0)
    >>> bool(jnp.all(uniform(key, (3,)) == jax.random.uniform(key, (3,))))
    True
    """
    bits = (random_bits(key, shape) >> np.uint32(32 - _MANTISSA_BITS)) | np.uint32(_ONE)
    return jax.lax.bitcast_convert_type(bits, jnp.float32) - 1.0


@functools.partial(jax.jit, static_argnums=2)
def bernoulli(key: Array, p: Array | float, shape: tuple[int, ...]) -> jax.Array:
    """As `jax.random.bernoulli(key, p, shape)`: bool, true with probability `p`.

    >>> key = jax.random.key(0)
    >>> bool(jnp.all(bernoulli(key, 0.3, (3,)) == jax.random.bernoulli(key, 0.3, (3,))))
    True
    """
    return uniform(key, shape) < jnp.asarray(p, jnp.float32)


@functools.partial(jax.jit, static_argnums=(1, 2))
def normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """As `jax.random.normal(key, shape, dtype)`: mean 0 and variance 1. Other types than float32 are left to JAX.

    >>> key = jax.random.key(0)
    >>> bool(jnp.all(normal(key, (3,)) == jax.random.normal(key, (3,))))
    True
    """
    if jnp.dtype(dtype) != jnp.float32:
        return jax.random.normal(key, shape, dtype)
    low = np.nextafter(np.float32(-1), np.float32(0))
    unit = jnp.maximum(low, uniform(key, shape) * (np.float32(1) - low) + low)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(unit)
