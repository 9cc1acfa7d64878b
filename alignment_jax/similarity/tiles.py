"""One tile of S = x yᵀ, the state of a sweep, and arrays cut into tiles."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alignment_jax.similarity.duplicates import equal_in_one
from alignment_jax.similarity.products import weighted_einsum

Tree = Any


class Tile(NamedTuple):
    """One tile of S, its embeddings x [t, d] and y [t, d], and the constants of its rows and columns.

    `diagonal` is a scalar, true for a tile on the diagonal of S, whose own diagonal holds the pairs.
    """

    s: jax.Array
    x: jax.Array
    y: jax.Array
    row: dict[str, jax.Array]
    column: dict[str, jax.Array]
    diagonal: jax.Array

    def own_pairs(self) -> jax.Array:
        """[t, t] bool, true for a sample with its own partner."""
        return self.diagonal & jnp.eye(self.s.shape[0], self.s.shape[1], dtype=bool)

    def duplicates(self) -> jax.Array:
        """[t, t] bool, true for duplicates of the row's pair; the constants hold ids."""
        return equal_in_one(self.row, self.column) & ~self.own_pairs()

    def positive(self) -> jax.Array:
        """[t] similarities of the pairs, or zeros where this tile holds none."""
        # Taken from the tile itself: a separate dot product rounds differently, and at a temperature of 0.001 the
        # difference is a visible part of the loss of a pair that wins.
        return jnp.where(self.diagonal, jnp.diagonal(self.s), 0.0)


class State(NamedTuple):
    """Accumulators of rows, or of columns; arrays with a leading axis of tiles.

    Args:
      added: plain sums over tiles.
      merged: values that need a function to merge them, such as largest ones; may be empty.
    """

    added: dict[str, jax.Array]
    merged: dict[str, jax.Array]


def tile_rows(rows: int, tile: int) -> int:
    """Rows of a tile, at most `tile`, so that the last tile is nearly full: 1100 rows become 2 x 560, not 2 x 1024."""
    even = math.ceil(rows / math.ceil(rows / min(tile, rows)))
    return even if even <= 64 else min(tile, 16 * math.ceil(even / 16))


def split(x: jax.Array, rows: int, fill: float = 0.0) -> jax.Array:
    """[n, ...] -> [tiles, rows, ...], the tail filled."""
    tail = -x.shape[0] % rows
    if tail:
        x = jnp.pad(x, [(0, tail)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    return x.reshape(-1, rows, *x.shape[1:])


def join(x: jax.Array, n: int) -> jax.Array:
    """[tiles, rows, ...] -> [n, ...], the tail dropped."""
    return x.reshape(-1, *x.shape[2:])[:n]


def join_states(row_state: State, column_state: State, n: int) -> dict[str, jax.Array]:
    """Accumulators of each anchor [n]: names of the row states with _ab, of the column states with _ba.

    `positive`, the similarity of a pair, belongs to both directions and keeps its name.
    """
    joined = {}
    for direction, state in (("ab", row_state), ("ba", column_state)):
        for name, value in (state.added | state.merged).items():
            joined[name if name == "positive" else f"{name}_{direction}"] = join(value, n)
    return joined


def zero_gradients(rows: Tree, columns: Tree) -> tuple[jax.Array, jax.Array]:
    """Zeros for `add_gradients`, varying over the mesh axes of the embeddings."""
    return jnp.zeros_like(rows["z"], jnp.float32), jnp.zeros_like(columns["z"], jnp.float32).swapaxes(1, 2)


def add_gradients(
    tile: Tile, weight: jax.Array, dx: jax.Array, dy: jax.Array, precision: str
) -> tuple[jax.Array, jax.Array]:
    """dx [t, d] + W y and, transposed, dy [d, t] + xᵀ W; a product with Wᵀ would be slower."""
    dx += weighted_einsum("ij,jd->id", weight, tile.y, precision)
    return dx, dy + weighted_einsum("id,ij->dj", tile.x, weight, precision)


def join_gradients(dx: jax.Array, dy: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Accumulated tiles -> (dx [n, d], dy [n, d]) float32."""
    return join(dx, n), join(dy.swapaxes(1, 2), n)
