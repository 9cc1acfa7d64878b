"""Square tiles of a similarity matrix, one in memory at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# A tile of 4 MiB fits into the caches of one core; smaller ones are dominated by the overhead of the loop.
TILE = 1024
_STEP = 64


def fit_tile(tile: int, *sizes: int) -> int:
    """The tile's side for matrices of these sizes: not much larger than the matrix, a multiple of 64."""
    if tile < 1:
        raise ValueError(f"tile must be >= 1, got {tile}")
    largest = -(-max(sizes) // _STEP) * _STEP
    return min(-(-tile // _STEP) * _STEP, largest)


def similarities_of_a_device(tile: int, n: int, m: int, *, devices: int) -> int:
    """Similarities that each device computes of a matrix [n, m], whose rows and columns they hold in whole tiles.

    >>> similarities_of_a_device(1024, 12_000, 12_000, devices=8) / 12_000**2, 1 / 8  # 2 of 12 tiles, of 16 padded ones
    (0.233..., 0.125)
    """
    rows, columns = (-(-size // (tile * devices)) for size in (n, m))
    return rows * columns * devices * tile**2


def tile_of_devices(tile: int, n: int, m: int, *, devices: int) -> int:
    """The side, at most `fit_tile` and at least half of it, with which devices share a matrix [n, m] most evenly.

    >>> tile_of_devices(1024, 12_000, 12_000, devices=8)
    768
    """
    largest = fit_tile(tile, n, m)
    sides = range(largest, max(largest // 2, _STEP) - 1, -_STEP)
    return min(sides, key=lambda side: similarities_of_a_device(side, n, m, devices=devices))


def stack_tiles(x: jax.Array, tile: int, *, fill: float | int = 0) -> jax.Array:
    """[n, ...] -> [ceil(n / tile), tile, ...], the tail filled up."""
    count = -(-x.shape[0] // tile)
    padding = [(0, count * tile - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding, constant_values=fill).reshape(count, tile, *x.shape[1:])


def similarity_tile(za: jax.Array, zb: jax.Array) -> jax.Array:
    """za zbT in full float32, [tile, d] x [tile, d] -> [tile, tile].

    All compared similarities are computed here, in one shape: a matmul of another shape or precision may round
    differently, and equal similarities would differ.
    """
    contract_features = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(
        za, zb, contract_features, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )
