"""Candidates against a bank of queries, tile by tile, with one small state a candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.checks import check_where
from alignment_jax.core.types import Array
from alignment_jax.core.varying import vary_together
from alignment_jax.metrics._square_tiles import similarity_tile, stack_tiles

# 1024 candidates x 4096 queries: 16 MiB of similarities at a time.
CANDIDATE_TILE, BANK_TILE = 1024, 4096

State = Any  # a tree of arrays [rows, ...]
# (state, similarities [rows, t], counts [t]) -> state; queries that do not count must be left out.
Update = Callable[[State, jax.Array, jax.Array], State]


def sweep_bank(
    candidates: Array,
    bank: Array,
    where: Array | None,
    axis_name: str | None,
    initial: Callable[[int], State],
    update: Update,
) -> tuple[State, jax.Array]:
    """The state of every candidate after all queries of the bank, and how many queries count.

    Over a mesh axis each device keeps its candidates, and the shards of the bank travel around the ring.

    Args:
      candidates: [N, d].
      bank: [M, d].
      where: bool [M], the queries that count, or None for all.
      axis_name: mesh axis that both are sharded over, or None.
      initial: number of rows -> their state before the first query.
      update: adds a tile of similarities to a state.

    Raises:
      ValueError: a shape does not fit, or the bank is empty.
    """
    candidates, bank = _checked(candidates, bank, where)
    counts = jnp.ones(bank.shape[:1], bool) if where is None else jnp.asarray(where)
    # A masked row may hold NaN, and 0 · NaN is NaN.
    bank = bank if where is None else jnp.where(counts[:, None], bank, jnp.zeros((), bank.dtype))
    rows = min(CANDIDATE_TILE, candidates.shape[0])
    tiles = stack_tiles(candidates, rows)
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (tiles.shape[0], *x.shape)), initial(rows))

    def absorb(states: State, bank: jax.Array, counts: jax.Array) -> State:
        return jax.lax.map(lambda one: _one_tile(one[0], one[1], bank, counts, update), (states, tiles))

    total = jnp.sum(counts.astype(jnp.float32))
    if axis_name is None:
        states = absorb(vary_together((states, tiles, bank, counts))[0], bank, counts)
    else:
        total = jax.lax.psum(total, axis_name)
        devices = jax.lax.axis_size(axis_name)
        neighbours = [(device, (device + 1) % devices) for device in range(devices)]
        states, bank, counts = vary_together((states, bank, counts), axis_name)

        def turn(carry: Any, _: None) -> tuple[Any, None]:
            states, *shard = carry
            arriving = jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, neighbours), shard)
            return (absorb(states, *shard), *arriving), None

        (states, _, _), _ = jax.lax.scan(turn, (states, bank, counts), None, length=devices)
    n = candidates.shape[0]
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], states), total


def _one_tile(state: State, z: jax.Array, bank: jax.Array, counts: jax.Array, update: Update) -> State:
    size = min(BANK_TILE, bank.shape[0])
    steps = -(-bank.shape[0] // size)

    def step(state: State, number: jax.Array) -> tuple[State, None]:
        # The last slice begins early enough to be whole: no padded copy of the bank. Rows seen before do not count.
        start = jnp.minimum(number * size, bank.shape[0] - size)
        queries = jax.lax.dynamic_slice_in_dim(bank, start, size)
        new = jnp.arange(size) >= number * size - start
        counted = jax.lax.dynamic_slice_in_dim(counts, start, size) & new
        return update(state, similarity_tile(z, queries), counted), None

    state, _, _, _ = vary_together((state, z, bank, counts))
    return jax.lax.scan(step, state, jnp.arange(steps))[0]


def _checked(candidates: Array, bank: Array, where: Array | None) -> tuple[jax.Array, jax.Array]:
    for name, z in (("candidates", candidates), ("bank", bank)):
        if jnp.ndim(z) != 2 or not jnp.issubdtype(jnp.result_type(z), jnp.floating):
            raise ValueError(f"{name} must be floating point [n, d], got {jnp.result_type(z)} of shape {jnp.shape(z)}")
        if jnp.shape(z)[0] == 0:
            raise ValueError(f"{name} must have at least one row, got shape {jnp.shape(z)}")
    if jnp.shape(candidates)[1] != jnp.shape(bank)[1]:
        raise ValueError(
            f"candidates and bank must have the same width d, got {jnp.shape(candidates)[1]} and {jnp.shape(bank)[1]}"
        )
    check_where(where, jnp.shape(bank)[0])
    if where is not None and not isinstance(where, jax.core.Tracer) and not np.any(np.asarray(where)):
        raise ValueError("bank must have at least one row that counts: where is False everywhere")
    candidates, bank = jnp.asarray(candidates), jnp.asarray(bank)
    dtype = jnp.promote_types(candidates.dtype, bank.dtype)
    return candidates.astype(dtype), bank.astype(dtype)
