"""The rank of the right answer of every query, both ways, in one pass over tiles of the similarity matrix."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array
from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.metrics._arrays import class_numbers, embeddings
from alignment_jax.metrics._duplicates import row_classes
from alignment_jax.metrics._tiles import TILE, fit_tile, similarity_tile, stack_tiles


def retrieval_ranks(za: Array, zb: Array, a_of_b: Array, *, tile: int = TILE) -> tuple[jax.Array, jax.Array]:
    """Zero-based rank of the right answer of every query, both ways; ties count against the query.

    rank_ab[i] = number of b that are not i's own with S_ij >= max over own b of S_ij
    rank_ba[j] = number of other a with S_ij >= S_{a_of_b[j] j},   S = za zbT

    An a-query is judged by its best-placed own b, and its other own b do not push that one down. Memory is linear in
    the number of items; tiles of S exist one at a time.

    Args:
      za: [n, d] embeddings, used as they are; normalize first for cosine similarity.
      zb: [m, d] embeddings.
      a_of_b: [m] integers in [0, n), the a-item that each b-item belongs to, in any order.
      tile: side of the square tiles, rounded up to a multiple of 64.

    Returns:
      rank_ab int32 [n], -1 for an a-item without any b (it has no right answer, but stays a candidate for every b), and
      rank_ba int32 [m].

    Raises:
      ValueError: shapes disagree, a_of_b is out of range, or an embedding is not finite. Under a JAX transformation
        values are unknown: there a NaN similarity counts against the query.

    >>> za = jnp.eye(2)
    >>> zb = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.9, 0.1]])
    >>> rank_ab, rank_ba = retrieval_ranks(za, zb, jnp.array([0, 0, 1]))
    >>> rank_ab.tolist(), rank_ba.tolist()
    ([0, 1], [0, 1, 1])

    Bitwise equal embeddings always tie, wherever they stand and however the device rounds. Similarities are float32.
    """
    za, zb = embeddings("za", za), embeddings("zb", zb)
    if za.shape[1] != zb.shape[1]:
        raise ValueError(f"za and zb must have the same width d, got {za.shape[1]} and {zb.shape[1]}")
    owner = class_numbers("a_of_b", a_of_b, length=zb.shape[0], classes=za.shape[0], of="row of zb")
    return _ranks(za, zb, jnp.asarray(owner), fit_tile(tile, za.shape[0], zb.shape[0]))


@functools.partial(jax.jit, static_argnums=3)
def _ranks(za: jax.Array, zb: jax.Array, owner: jax.Array, tile: int) -> tuple[jax.Array, jax.Array]:
    n, m = za.shape[0], zb.shape[0]
    class_a, class_b = row_classes(za, tile), row_classes(zb, tile)
    duplicates = (class_a.max() < n - 1) | (class_b.max() < m - 1)

    own = _own_similarities(za, zb, owner, tile)
    best = jax.ops.segment_max(own, owner, num_segments=n)
    candidates = jnp.where(own == best[owner], jnp.arange(m, dtype=jnp.int32), m)
    best_b = jnp.minimum(jax.ops.segment_min(candidates, owner, num_segments=n), m - 1)

    rows = {
        "z": za,
        "own": best,
        "own_class": class_b[best_b],
        "candidate_class": class_a,
        "item": jnp.arange(n, dtype=jnp.int32),
    }
    columns = {
        "z": zb,
        "own": own,
        "own_class": class_a[owner],
        "candidate_class": class_b,
        "item": owner,
    }
    # Padding is item -1, which belongs to nobody and is no candidate.
    rows = {key: stack_tiles(x, tile, fill=-1 if key == "item" else 0) for key, x in rows.items()}
    columns = {key: stack_tiles(x, tile, fill=-1 if key == "item" else 0) for key, x in columns.items()}

    axes = varying_axes(rows, columns)

    def each_row_tile(count_b, row):
        def each_column_tile(count_a, column_and_count):
            column, count = column_and_count
            s = similarity_tile(row["z"], column["z"])
            first, last = row["item"][0], row["item"][-1]
            owned_here = ((column["item"] >= first) & (column["item"] <= last)).any()
            padded = (last < 0) | (column["item"][-1] < 0)
            # Nearly all tiles hold no own pair, no padding and no duplicate: those are two comparisons and two sums.
            ahead_a, ahead_b = jax.lax.cond(owned_here | padded | duplicates, _count_carefully, _count, s, row, column)
            return count_a + ahead_a, count + ahead_b

        count_a = vary_over(axes, jnp.zeros_like(row["item"]))
        count_a, count_b = jax.lax.scan(each_column_tile, count_a, (columns, count_b))
        return count_b, count_a

    count_b = vary_over(axes, jnp.zeros_like(columns["item"]))
    rank_ba, rank_ab = jax.lax.scan(each_row_tile, count_b, rows)
    has_b = jnp.zeros(n, bool).at[owner].set(True)
    return jnp.where(has_b, rank_ab.reshape(-1)[:n], -1), rank_ba.reshape(-1)[:m]


def _own_similarities(za: jax.Array, zb: jax.Array, owner: jax.Array, tile: int) -> jax.Array:
    """S_{owner[j] j} [m], read off the diagonal of whole tiles so that it rounds as its rivals do."""

    def one_tile(operands):
        own_a, b = operands
        return jnp.diagonal(similarity_tile(za[own_a], b))

    own = jax.lax.map(one_tile, (stack_tiles(owner, tile), stack_tiles(zb, tile)))
    return own.reshape(-1)[: zb.shape[0]]


def _count(s, row, column) -> tuple[jax.Array, jax.Array]:
    """How many entries of each row and each column are not below that query's own similarity."""
    # `not below` instead of `at least`: a NaN then counts against the query.
    return _sums(~(s < row["own"][:, None]), ~(s < column["own"][None, :]))


def _count_carefully(s, row, column) -> tuple[jax.Array, jax.Array]:
    """The same without own pairs and padding, and with every duplicate of the right answer as a tie."""
    rival = (row["item"][:, None] != column["item"]) & (row["item"][:, None] >= 0) & (column["item"] >= 0)
    same_as_best = row["own_class"][:, None] == column["candidate_class"]
    same_as_owner = row["candidate_class"][:, None] == column["own_class"]
    ahead_a = rival & (~(s < row["own"][:, None]) | same_as_best)
    ahead_b = rival & (~(s < column["own"][None, :]) | same_as_owner)
    return _sums(ahead_a, ahead_b)


def _sums(ahead_a: jax.Array, ahead_b: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Sums of at most one tile's side in float32 are exact, and faster than integer ones on CPU.
    count_a = ahead_a.astype(jnp.float32).sum(axis=1).astype(jnp.int32)
    count_b = ahead_b.astype(jnp.float32).sum(axis=0).astype(jnp.int32)
    return count_a, count_b
