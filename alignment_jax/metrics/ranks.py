"""The rank of the right answer of every query, both ways, in one pass over tiles of the similarity matrix."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.types import Array
from alignment_jax.metrics._items import content_ids, first_rows
from alignment_jax.metrics._rank_blocks import rank_blocks
from alignment_jax.metrics._row_shards import AXIS, RowShards, put_blocks, row_mesh
from alignment_jax.metrics._square_tiles import TILE, fit_tile, similarities_of_a_device, tile_of_devices
from alignment_jax.metrics._value_checks import check_embeddings, check_finite_rows, class_numbers, embeddings

Pair = tuple[jax.Array, jax.Array] | None


@renamed_keywords(a_of_b="b_to_a")
def retrieval_ranks(
    za: Array,
    zb: Array,
    b_to_a: Array,
    *,
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    tile: int = TILE,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Zero-based rank of the right answer of every query, both ways; ties count against the query.

    rank_ab[i] = number of b that are not i's own with S_ij >= max over own b of S_ij
    rank_ba[j] = number of a that are not j's own with S_ij >= max over own a of S_ij,   S = za zbT

    The rank of a query is that of its best-placed own item; its other own items do not count against it. Rows with
    equal ids are one item, represented by the first row: one candidate and one query, with the partners of all its
    rows. Memory is linear in the number of items; one tile of S is in memory at a time.

    Args:
      za: [n, d] embeddings; normalize first for cosine similarity.
      zb: [m, d] embeddings.
      b_to_a: [m] integers in [0, n), the a-item that each b-item belongs to, in any order.
      ids_a: [n] integers, equal where a-rows have the same content; None where all differ.
      ids_b: [m] integers, the same for b-rows.
      tile: side of the square tiles, rounded up to a multiple of 64.
      devices: that share the rows of both sides; blocks of zb travel around their ring. With several processes every
        process makes the same call with the same host arrays. The ranks are those of one device. None: the device of
        the arrays.

    Returns:
      rank_ab int32 [n] and rank_ba int32 [m]. -1 for a row that is no query: an a-item without any b (it has no right
      answer, but is a candidate for every b), and a row that repeats an earlier one.

    Raises:
      ValueError: shapes disagree, b_to_a is out of range, or an embedding is not finite. Under a JAX transformation
        values are not checked, and a NaN similarity counts against the query.

    >>> za = jnp.eye(2)
    >>> zb = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.9, 0.1]])
    >>> rank_ab, rank_ba = retrieval_ranks(za, zb, jnp.array([0, 0, 1]))
    >>> rank_ab.tolist(), rank_ba.tolist()
    ([0, 1], [0, 1, 1])
    >>> rank_ab, rank_ba = retrieval_ranks(za, zb, jnp.array([0, 0, 1]), ids_b=jnp.array([4, 5, 4]))
    >>> rank_ab.tolist(), rank_ba.tolist()
    ([0, 1], [0, 1, -1])

    Bitwise equal embeddings always tie, at any position and with any rounding of the device. Similarities are float32.
    """
    for name, z in (("za", za), ("zb", zb)):
        check_embeddings(name, z)
    (n, width), (m, other) = np.shape(za), np.shape(zb)
    if width != other:
        raise ValueError(f"za and zb must have the same width d, got {width} and {other}")
    owner: Any = class_numbers("b_to_a", b_to_a, length=m, classes=n, of="row of zb")
    ids: Any = None
    if ids_a is not None or ids_b is not None:
        ids = (content_ids("ids_a", ids_a, n), content_ids("ids_b", ids_b, m))
    if devices is None or not shares_ranks(n, m, devices=len(devices), tile=tile):
        shards = RowShards(1, fit_tile(tile, n, m))
        return _ranks(embeddings("za", za), embeddings("zb", zb), owner, ids, shards)
    mesh, shards = row_mesh(devices), RowShards(len(devices), tile_of_devices(tile, n, m, devices=len(devices)))
    for name, z in (("za", za), ("zb", zb)):
        check_finite_rows(name, z)
    blocks = (put_blocks(za, mesh, shards), put_blocks(zb, mesh, shards))
    return _sharded_ranks(*blocks, owner, ids, sizes=(n, m), shards=shards, mesh=mesh)


def shares_ranks(n: int, m: int, *, devices: int, tile: int = TILE) -> bool:
    """Whether `retrieval_ranks` of n and m rows is faster on so many devices than on one.

    A device takes whole tiles: few of them leave devices without work. And devices wait for each other's rows: sharing
    must save each of them a tile.

    >>> shares_ranks(1000, 1000, devices=2), shares_ranks(1000, 5000, devices=2), shares_ranks(5000, 5000, devices=1)
    (False, True, False)
    """
    if devices == 1:
        return False
    alone = similarities_of_a_device(fit_tile(tile, n, m), n, m, devices=1)
    shared = tile_of_devices(tile, n, m, devices=devices)
    return similarities_of_a_device(shared, n, m, devices=devices) <= alone - tile**2


@functools.partial(jax.jit, static_argnums=4)
def _ranks(za: jax.Array, zb: jax.Array, owner: jax.Array, ids: Pair, shards: RowShards) -> tuple[jax.Array, jax.Array]:
    sizes = (za.shape[0], zb.shape[0])
    first = _first_rows(ids)
    rank_ab, rank_ba = rank_blocks(shards.own(za), shards.own(zb), owner, first, sizes=sizes, shards=shards)
    return _of_queries(rank_ab[: sizes[0]], rank_ba[: sizes[1]], owner, first)


@functools.partial(jax.jit, static_argnames=("sizes", "shards", "mesh"))
def _sharded_ranks(
    za: jax.Array, zb: jax.Array, owner: jax.Array, ids: Pair, *, sizes: tuple[int, int], shards: RowShards, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    blocks = functools.partial(rank_blocks, sizes=sizes, shards=shards)
    mapped = jax.shard_map(blocks, mesh=mesh, in_specs=(P(AXIS), P(AXIS), P(), P()), out_specs=(P(AXIS), P(AXIS)))
    (n, m), first = sizes, _first_rows(ids)
    rank_ab, rank_ba = mapped(za, zb, owner, first)
    found = _of_queries(rank_ab[:n], rank_ba[:m], owner, first)
    return jax.lax.with_sharding_constraint(found, NamedSharding(mesh, P()))


def _first_rows(ids: Pair) -> Pair:
    return None if ids is None else (first_rows(ids[0]), first_rows(ids[1]))


def _of_queries(rank_ab: jax.Array, rank_ba: jax.Array, owner: jax.Array, first: Pair) -> tuple[jax.Array, jax.Array]:
    """The ranks, -1 for a row that is no query."""
    if first is None:
        return jnp.where(jnp.zeros(len(rank_ab), bool).at[owner].set(True), rank_ab, -1), rank_ba
    first_a, first_b = first
    query_a = jnp.zeros(len(rank_ab), bool).at[first_a[owner]].set(True)
    return jnp.where(query_a, rank_ab, -1), jnp.where(first_b == jnp.arange(len(rank_ba)), rank_ba, -1)
