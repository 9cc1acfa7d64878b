"""A sweep over S = x yᵀ, one tile at a time: every tile is made once and serves its rows and its columns.

The inner loop runs over column tiles with the rows' state in its carry; the columns' state goes through it as inputs
and outputs, so that one product of a tile updates both and nothing larger than a tile is ever held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alignment_jax.similarity.dense import matmul
from alignment_jax.similarity.duplicates import equal_in_one

Tree = Any


class Tile(NamedTuple):
    """One tile of S and what belongs to it: embeddings x [t, d] and y [t, d], constants of its rows and columns.

    `own` is a scalar, true where the tile lies on the diagonal of S, so that its own diagonal holds the pairs.
    """

    s: jax.Array
    x: jax.Array
    y: jax.Array
    row: dict[str, jax.Array]
    column: dict[str, jax.Array]
    own: jax.Array

    def same(self) -> jax.Array:
        """[t, t] bool, true for a sample with its own partner."""
        return self.own & jnp.eye(self.s.shape[0], self.s.shape[1], dtype=bool)

    def twins(self) -> jax.Array:
        """[t, t] bool, true for duplicates of the row's pair; the constants hold ids."""
        return equal_in_one(self.row, self.column) & ~self.same()

    def positive(self) -> jax.Array:
        """[t] similarities of the pairs, or zeros where none lie in this tile."""
        # Taken from the tile itself: a separate dot product rounds differently, and at a temperature of 0.001 the
        # difference is a visible part of the loss of a pair that wins.
        return jnp.where(self.own, jnp.diagonal(self.s), 0.0)


class State(NamedTuple):
    """What a sweep has found for its rows, or for its columns; arrays with a leading axis of tiles.

    Args:
      added: sums over the tiles seen.
      merged: what only a function of its own can merge, such as largest values; may be empty.
    """

    added: dict[str, jax.Array]
    merged: dict[str, jax.Array]


Update = Callable[[Tile, State, State], tuple[State, State]]


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


def sweep(
    update: Update, rows: Tree, columns: Tree, row_state: State, column_state: State, offset: jax.Array | int
) -> tuple[State, State]:
    """Updated (row_state, column_state) after every tile of S.

    Args:
      update: (tile, state of its rows, state of its columns) -> the two states.
      rows, columns: trees of arrays [tiles, t, ...], with the embeddings under "z"; constants of the sweep.
      row_state, column_state: what was found before.
      offset: column tile that the first row tile is paired with; negative when none of the columns are the rows' own.
    """

    def row_tile(column_state: Tree, at: Tree) -> tuple[Tree, Tree]:
        i, row, row_state = at

        def column_tile(row_state: Tree, at: Tree) -> tuple[Tree, Tree]:
            j, column, column_state = at
            x, y = row["z"], column["z"]
            own = (i + offset == j) & (offset >= 0)
            return update(Tile(matmul(x, y), x, y, row, column, own), row_state, column_state)

        row_state, column_state = jax.lax.scan(column_tile, row_state, (_count(columns), columns, column_state))
        return column_state, row_state

    column_state, row_state = jax.lax.scan(row_tile, column_state, (_count(rows), rows, row_state))
    return row_state, column_state


def _count(tiles: Tree) -> jax.Array:
    return jnp.arange(tiles["z"].shape[0])


def accumulate(tile: Tile, weight: jax.Array, dx: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """dx [t, d] + W y and, transposed, dy [d, t] + xᵀ W; a product with Wᵀ would be slower."""
    return dx + weighted_sum("ij,jd->id", weight, tile.y), dy + weighted_sum("id,ij->dj", tile.x, weight)


def weighted_sum(product: str, first: jax.Array, second: jax.Array) -> jax.Array:
    """A product (of `einsum`) of float32 weights and embeddings, which stand in either order; float32."""
    narrow = jnp.bfloat16 in (first.dtype, second.dtype)
    # The range of bfloat16 is that of float32, so small weights survive; in float16 they would vanish.
    first, second = (x.astype(jnp.bfloat16) if narrow else x for x in (first, second))
    precision = jax.lax.Precision.HIGHEST if first.dtype == second.dtype == jnp.float32 else None
    return jnp.einsum(product, first, second, precision=precision, preferred_element_type=jnp.float32)


def zero_gradients(rows: Tree, columns: Tree) -> tuple[jax.Array, jax.Array]:
    """Zeros for `accumulate`, varying over the axes that the embeddings vary over."""
    return jnp.zeros_like(rows["z"], jnp.float32), jnp.zeros_like(columns["z"], jnp.float32).swapaxes(1, 2)


def join_gradients(dx: jax.Array, dy: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Accumulated tiles -> (dx [n, d], dy [n, d]) float32."""
    return join(dx, n), join(dy.swapaxes(1, 2), n)


def join_states(row_state: State, column_state: State, n: int) -> dict[str, jax.Array]:
    """What was found for each anchor [n]: names of the row states with _ab, of the column states with _ba.

    `positive`, the similarity of a pair, belongs to both directions and keeps its name.
    """
    found = {}
    for direction, state in (("ab", row_state), ("ba", column_state)):
        for name, value in (state.added | state.merged).items():
            found[name if name == "positive" else f"{name}_{direction}"] = join(value, n)
    return found


def instantiate(cotangent: jax.Array | jax.custom_derivatives.SymbolicZero, like: jax.Array) -> jax.Array:
    """A cotangent as an array, zeros like `like` where nothing depends on the output."""
    return jnp.zeros_like(like) if isinstance(cotangent, jax.custom_derivatives.SymbolicZero) else cotangent


def values(primals: Tree) -> Tree:
    """The arrays of a `custom_vjp` forward pass that is told which arguments are differentiated; None stays None."""
    return jax.tree.map(lambda p: p.value, primals, is_leaf=lambda p: hasattr(p, "perturbed"))
