"""The rank of the right answer of every query, both ways, in one pass over tiles of the similarity matrix."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.types import Array
from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.metrics._equal_rows import row_classes
from alignment_jax.metrics._items import content_ids, first_rows
from alignment_jax.metrics._square_tiles import TILE, fit_tile, similarity_tile, stack_tiles
from alignment_jax.metrics._value_checks import class_numbers, embeddings


@renamed_keywords(a_of_b="b_to_a")
def retrieval_ranks(
    za: Array, zb: Array, b_to_a: Array, *, ids_a: Array | None = None, ids_b: Array | None = None, tile: int = TILE
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
    za, zb = embeddings("za", za), embeddings("zb", zb)
    if za.shape[1] != zb.shape[1]:
        raise ValueError(f"za and zb must have the same width d, got {za.shape[1]} and {zb.shape[1]}")
    owner = class_numbers("b_to_a", b_to_a, length=zb.shape[0], classes=za.shape[0], of="row of zb")
    ids = None
    if ids_a is not None or ids_b is not None:
        ids = (content_ids("ids_a", ids_a, za.shape[0]), content_ids("ids_b", ids_b, zb.shape[0]))
    return _ranks(za, zb, jnp.asarray(owner), ids, fit_tile(tile, za.shape[0], zb.shape[0]))


@functools.partial(jax.jit, static_argnums=4)
def _ranks(
    za: jax.Array, zb: jax.Array, owner: jax.Array, ids: tuple[jax.Array, jax.Array] | None, tile: int
) -> tuple[jax.Array, jax.Array]:
    n, m = za.shape[0], zb.shape[0]
    class_a, class_b = row_classes(za, tile), row_classes(zb, tile)
    duplicates = (class_a.max() < n - 1) | (class_b.max() < m - 1)
    row_a, row_b = jnp.arange(n, dtype=jnp.int32), jnp.arange(m, dtype=jnp.int32)
    first_a, first_b = (row_a, row_b) if ids is None else (first_rows(ids[0]), first_rows(ids[1]))
    # The pairs of items, numbered by their first rows; a pair may repeat.
    pair_a, pair_b = first_a[owner], first_b

    own = _pair_similarities(za, zb, pair_a, pair_b, tile)
    best_a, class_of_best_b = _best(own, pair_a, class_b[pair_b], n)
    best_b, class_of_best_a = _best(own, pair_b, class_a[pair_a], m)
    rows = {
        "z": za,
        "own": best_a,
        "own_class": class_of_best_b,
        "candidate_class": class_a,
        "item": row_a,
        "counts": first_a == row_a,
    }
    columns = {
        "z": zb,
        "own": best_b,
        "own_class": class_of_best_a,
        "candidate_class": class_b,
        "item": row_b,
        "owner": owner,
        "counts": first_b == row_b,
    }
    # Padding is item -1, without partner, and no candidate.
    numbers = ("item", "owner")
    rows = {key: stack_tiles(x, tile, fill=-1 if key in numbers else 0) for key, x in rows.items()}
    columns = {key: stack_tiles(x, tile, fill=-1 if key in numbers else 0) for key, x in columns.items()}

    axes = varying_axes(rows, columns)

    def each_row_tile(count_b, row):
        def each_column_tile(count_a, column_and_count):
            column, count = column_and_count
            s = similarity_tile(row["z"], column["z"])
            first, last = row["item"][0], row["item"][-1]
            if ids is None:
                owned_here = ((column["owner"] >= first) & (column["owner"] <= last)).any()

                def related():
                    return row["item"][:, None] == column["owner"]
            else:
                i, j = pair_a - first, pair_b - column["item"][0]
                here = (i >= 0) & (i < tile) & (j >= 0) & (j < tile)
                owned_here = here.any()

                def related():
                    empty = vary_over(axes, jnp.zeros((tile, tile), bool))
                    return empty.at[jnp.where(here, i, tile), jnp.where(here, j, tile)].set(True, mode="drop")

            partly = ~(row["counts"].all() & column["counts"].all())

            def careful(s, row, column):
                return _count_carefully(s, row, column, related())

            # Nearly all tiles have no own pair, no padding and no duplicate: two comparisons and two sums.
            ahead_a, ahead_b = jax.lax.cond(owned_here | partly | duplicates, careful, _count, s, row, column)
            return count_a + ahead_a, count + ahead_b

        count_a = vary_over(axes, jnp.zeros_like(row["item"]))
        count_a, count_b = jax.lax.scan(each_column_tile, count_a, (columns, count_b))
        return count_b, count_a

    count_b = vary_over(axes, jnp.zeros_like(columns["item"]))
    rank_ba, rank_ab = jax.lax.scan(each_row_tile, count_b, rows)
    query_a = jnp.zeros(n, bool).at[pair_a].set(True)
    rank_ab = jnp.where(query_a, rank_ab.reshape(-1)[:n], -1)
    return rank_ab, jnp.where(first_b == row_b, rank_ba.reshape(-1)[:m], -1)


def _best(own: jax.Array, item: jax.Array, partner_class: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Largest similarity of every item to one of its own, and the class of the first partner that has it."""
    best = jax.ops.segment_max(own, item, num_segments=count)
    place = jnp.where(own == best[item], jnp.arange(len(own), dtype=jnp.int32), len(own))
    first = jnp.minimum(jax.ops.segment_min(place, item, num_segments=count), len(own) - 1)
    return best, partner_class[first]


def _pair_similarities(za: jax.Array, zb: jax.Array, pair_a: jax.Array, pair_b: jax.Array, tile: int) -> jax.Array:
    """S of every pair [p], from the diagonal of whole tiles, so that it rounds as its rivals do."""

    def one_tile(pairs):
        own_a, own_b = pairs
        return jnp.diagonal(similarity_tile(za[own_a], zb[own_b]))

    own = jax.lax.map(one_tile, (stack_tiles(pair_a, tile), stack_tiles(pair_b, tile)))
    return own.reshape(-1)[: len(pair_a)]


def _count(s, row, column) -> tuple[jax.Array, jax.Array]:
    """How many entries of each row and each column are not below that query's own similarity."""
    # `not below` instead of `at least`, so that NaN counts against the query.
    return _sums(~(s < row["own"][:, None]), ~(s < column["own"][None, :]))


def _count_carefully(s, row, column, related) -> tuple[jax.Array, jax.Array]:
    """The same without own pairs, repeated rows and padding, and with every duplicate of the right answer as a tie."""
    rival = ~related & row["counts"][:, None] & column["counts"]
    same_as_best_b = row["own_class"][:, None] == column["candidate_class"]
    same_as_best_a = row["candidate_class"][:, None] == column["own_class"]
    ahead_a = rival & (~(s < row["own"][:, None]) | same_as_best_b)
    ahead_b = rival & (~(s < column["own"][None, :]) | same_as_best_a)
    return _sums(ahead_a, ahead_b)


def _sums(ahead_a: jax.Array, ahead_b: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Sums of at most one tile's side in float32 are exact, and faster than integer ones on CPU.
    count_a = ahead_a.astype(jnp.float32).sum(axis=1).astype(jnp.int32)
    count_b = ahead_b.astype(jnp.float32).sum(axis=0).astype(jnp.int32)
    return count_a, count_b
