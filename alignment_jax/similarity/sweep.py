"""A sweep over S = x yᵀ, tile by tile: every tile is computed once and updates its rows and its columns.

The inner loop runs over column tiles and carries the rows' state. The columns' state passes through as inputs and
outputs of the scan, so that one product updates both and memory holds one tile at a time. Over a mesh axis the columns
of all devices are gathered at once, or passed around a ring.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.similarity.implementation import ResolvedImplementation
from alignment_jax.similarity.products import matmul
from alignment_jax.similarity.tiles import State, Tile

Tree = Any
Update = Callable[[Tile, State, State], tuple[State, State]]
# (rows, columns, row_state, column_state, offset) -> (row_state, column_state), as `sweep_tiles` without its first two.
Sweep = Callable[[Tree, Tree, State, State, jax.Array | int], tuple[State, State]]
# Merges the `merged` part of states of the same columns over different rows: leaves [k, ...] -> [...].
Merge = Callable[[dict[str, jax.Array]], dict[str, jax.Array]]


def no_merge(merged: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The `merge` of states that hold sums alone."""
    return merged


def sweep_devices(
    sweep: Sweep,
    rows: Tree,
    columns: Tree,
    row_state: State,
    column_state: State,
    implementation: ResolvedImplementation,
    merge: Merge = no_merge,
) -> tuple[State, State]:
    """`sweep` over the rows of this device and the columns of all devices.

    Arguments are those of `sweep_tiles`, for this device's rows and columns. The states must be zero where they are
    sums, and neutral elements of `merge` elsewhere. Returns the complete states of this device's rows and columns.
    """
    axis_name = implementation.axis_name
    if axis_name is None or implementation.exchange is None:
        return sweep(rows, columns, row_state, column_state, 0)
    exchange = _sweep_gathered if implementation.exchange == "gather" else _sweep_ring
    return exchange(sweep, rows, columns, row_state, column_state, merge, axis_name)


def sweep_tiles(
    update: Update,
    precision: str,
    rows: Tree,
    columns: Tree,
    row_state: State,
    column_state: State,
    offset: jax.Array | int,
) -> tuple[State, State]:
    """Updated (row_state, column_state) after every tile of S, on one device.

    Args:
      update: (tile, state of its rows, state of its columns) -> the two states.
      precision: of the similarities, see `products.matmul`.
      rows, columns: trees of arrays [tiles, t, ...], with the embeddings under "z"; constants of the sweep.
      row_state, column_state: the states before the first tile.
      offset: column tile that the first row tile is paired with; negative when none of the columns are the rows' own.
    """

    def row_tile(column_state: Tree, at: Tree) -> tuple[Tree, Tree]:
        i, row, row_state = at

        def column_tile(row_state: Tree, at: Tree) -> tuple[Tree, Tree]:
            j, column, column_state = at
            x, y = row["z"], column["z"]
            diagonal = (i + offset == j) & (offset >= 0)
            return update(Tile(matmul(x, y, precision), x, y, row, column, diagonal), row_state, column_state)

        row_state, column_state = jax.lax.scan(column_tile, row_state, (_numbers(columns), columns, column_state))
        return column_state, row_state

    column_state, row_state = jax.lax.scan(row_tile, column_state, (_numbers(rows), rows, row_state))
    return row_state, column_state


def _numbers(tiles: Tree) -> jax.Array:
    return jnp.arange(tiles["z"].shape[0])


def _sweep_gathered(sweep, rows, columns, row_state, column_state, merge, axis_name):
    devices, tiles = jax.lax.axis_size(axis_name), rows["z"].shape[0]
    gathered = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), columns)
    neutral = jax.tree.map(lambda x: jnp.tile(x, (devices,) + (1,) * (x.ndim - 1)), column_state)
    offset = jax.lax.axis_index(axis_name) * tiles
    row_state, states = sweep(rows, gathered, row_state, neutral, offset)

    def of_own_columns(x: jax.Array) -> jax.Array:
        # Every device's state of this device's columns, [devices, tiles, ...].
        return jax.lax.all_to_all(x.reshape(devices, tiles, *x.shape[1:]), axis_name, 0, 0)

    added = jax.tree.map(lambda x: jax.lax.psum_scatter(x, axis_name, tiled=True), states.added)
    return row_state, State(added, merge(jax.tree.map(of_own_columns, states.merged)))


def _sweep_ring(sweep, rows, columns, row_state, column_state, merge, axis_name):
    devices = jax.lax.axis_size(axis_name)
    neighbours = [(d, (d + 1) % devices) for d in range(devices)]

    def pass_on(tree: Tree) -> Tree:
        return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, neighbours), tree)

    def step(carry: Tree, turn: jax.Array) -> tuple[Tree, None]:
        columns, travelled, row_state = carry
        # Transfers and products of one step are independent, so that they overlap: the incoming block is for the next
        # step, and its state from the other devices is merged afterwards.
        incoming, travelled = pass_on((columns, travelled))
        # Zeros as large as the embeddings are made in every step rather than kept for all of them.
        neutral = State(jax.tree.map(jnp.zeros_like, travelled.added), column_state.merged)
        row_state, here = sweep(rows, columns, row_state, neutral, jnp.where(turn == 0, 0, -1))
        added = jax.tree.map(jnp.add, travelled.added, here.added)  # as large as the embeddings: no stacked copy
        merged = merge(jax.tree.map(lambda x, y: jnp.stack([x, y]), travelled.merged, here.merged))
        return (incoming, State(added, merged), row_state), None

    carry = (columns, column_state, row_state)
    (_, travelled, row_state), _ = jax.lax.scan(step, carry, jnp.arange(devices))
    # After a full turn every block is one neighbour short of its own device.
    return row_state, pass_on(travelled)
