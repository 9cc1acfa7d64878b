"""The K most similar items of every query, for galleries and search."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array
from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.metrics._square_tiles import TILE, fit_tile, similarity_tile, stack_tiles
from alignment_jax.metrics._value_checks import embeddings


def top_k(za: Array, zb: Array, k: int, *, tile: int = TILE) -> tuple[jax.Array, jax.Array]:
    """The k rows of zb that are most similar to each row of za, best first; S = za zbT, one tile at a time.

    Args:
      za: [n, d] queries.
      zb: [m, d] candidates.
      k: answers per query, 1 <= k <= m.
      tile: side of the square tiles.

    Returns:
      similarity float32 [n, k], descending, and index int32 [n, k] into zb; equal similarities in the order of zb.

    Raises:
      ValueError: widths differ, an embedding is not finite, or k is out of range.

    >>> similarity, index = top_k(jnp.eye(2), jnp.array([[0.0, 1.0], [0.8, 0.6]]), 2)
    >>> index.tolist()
    [[1, 0], [0, 1]]
    """
    za, zb = embeddings("za", za), embeddings("zb", zb)
    if za.shape[1] != zb.shape[1]:
        raise ValueError(f"za and zb must have the same width d, got {za.shape[1]} and {zb.shape[1]}")
    if not 1 <= k <= zb.shape[0]:
        raise ValueError(f"k must be in [1, {zb.shape[0]}], the number of rows of zb, got {k}")
    return _top_k(za, zb, k, fit_tile(tile, za.shape[0], zb.shape[0]))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _top_k(za: jax.Array, zb: jax.Array, k: int, tile: int) -> tuple[jax.Array, jax.Array]:
    n, m = za.shape[0], zb.shape[0]
    columns = stack_tiles(zb, tile)
    numbers = stack_tiles(jnp.arange(m, dtype=jnp.int32), tile, fill=-1)

    def of_row_tile(queries):
        def merge(best, column):
            z, number = column
            s = jnp.where(number >= 0, similarity_tile(queries, z), -jnp.inf)
            # Earlier answers come first, and top_k keeps the order of equal values.
            values = jnp.concatenate([best[0], s], axis=1)
            indices = jnp.concatenate([best[1], jnp.broadcast_to(number, s.shape)], axis=1)
            values, places = jax.lax.top_k(values, k)
            return (values, jnp.take_along_axis(indices, places, axis=1)), None

        empty = (jnp.full((tile, k), -jnp.inf, jnp.float32), jnp.full((tile, k), -1, jnp.int32))
        empty = vary_over(varying_axes(za, zb), empty)
        return jax.lax.scan(merge, empty, (columns, numbers))[0]

    similarity, index = jax.lax.map(of_row_tile, stack_tiles(za, tile))
    return similarity.reshape(-1, k)[:n], index.reshape(-1, k)[:n]
