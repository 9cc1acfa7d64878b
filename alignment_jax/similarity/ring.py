"""A sweep over the rows of this device and the columns of all: brought here at once, or passed around the ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.similarity.implementation import ResolvedImplementation
from alignment_jax.similarity.tiled import State

Tree = Any
# (rows, columns, row_state, column_state, offset) -> (row_state, column_state), as `tiled.sweep` without its update.
Sweep = Callable[[Tree, Tree, State, State, jax.Array | int], tuple[State, State]]
# Merges the `merged` part of states of the same columns that have seen different rows: leaves [k, ...] -> [...].
Combine = Callable[[dict[str, jax.Array]], dict[str, jax.Array]]


def sums_only(merged: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The `combine` of states that are nothing but sums."""
    return merged


def sweep_all(
    sweep: Sweep,
    rows: Tree,
    columns: Tree,
    row_state: State,
    column_state: State,
    layout: ResolvedImplementation,
    combine: Combine = sums_only,
) -> tuple[State, State]:
    """`sweep` over the rows of this device and the columns of all devices.

    Args are those of `sweep`, for this device's rows and columns; `row_state` and `column_state` must be zeros where
    they are added up, and neutral elements of `combine`. Returns the state of this device's rows, complete, and of its
    columns, complete too.
    """
    if layout.axis_name is None or layout.exchange is None:
        return sweep(rows, columns, row_state, column_state, 0)
    if layout.exchange == "gather":
        return _sweep_gathered(sweep, rows, columns, row_state, column_state, combine, layout.axis_name)
    return _sweep_ring(sweep, rows, columns, row_state, column_state, combine, layout.axis_name)


def _sweep_gathered(sweep, rows, columns, row_state, column_state, combine, axis_name):
    devices, tiles = jax.lax.axis_size(axis_name), rows["z"].shape[0]
    gathered = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), columns)
    neutral = jax.tree.map(lambda x: jnp.tile(x, (devices,) + (1,) * (x.ndim - 1)), column_state)
    offset = jax.lax.axis_index(axis_name) * tiles
    row_state, states = sweep(rows, gathered, row_state, neutral, offset)

    def come_home(x: jax.Array) -> jax.Array:
        # Every device's state of this device's columns, [devices, tiles, ...].
        return jax.lax.all_to_all(x.reshape(devices, tiles, *x.shape[1:]), axis_name, 0, 0)

    added = jax.tree.map(lambda x: jax.lax.psum_scatter(x, axis_name, tiled=True), states.added)
    return row_state, State(added, combine(jax.tree.map(come_home, states.merged)))


def _sweep_ring(sweep, rows, columns, row_state, column_state, combine, axis_name):
    devices = jax.lax.axis_size(axis_name)
    neighbours = [(d, (d + 1) % devices) for d in range(devices)]

    def pass_on(tree: Tree) -> Tree:
        return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, neighbours), tree)

    def step(carry: Tree, turn: jax.Array) -> tuple[Tree, None]:
        columns, travelled, row_state = carry
        # No transfer waits for the work of this step, nor the work for a transfer: the next block is for the next step,
        # and what the other devices found for this block is merged afterwards.
        coming, travelled = pass_on((columns, travelled))
        # Zeros as large as the embeddings are made anew in every step rather than kept for all of them.
        neutral = State(jax.tree.map(jnp.zeros_like, travelled.added), column_state.merged)
        row_state, found = sweep(rows, columns, row_state, neutral, jnp.where(turn == 0, 0, -1))
        added = jax.tree.map(jnp.add, travelled.added, found.added)  # as large as the embeddings: no stacked copy
        merged = combine(jax.tree.map(lambda x, y: jnp.stack([x, y]), travelled.merged, found.merged))
        return (coming, State(added, merged), row_state), None

    carry = (columns, column_state, row_state)
    (_, travelled, row_state), _ = jax.lax.scan(step, carry, jnp.arange(devices))
    # After a full turn every block is one neighbour short of home.
    return row_state, pass_on(travelled)
