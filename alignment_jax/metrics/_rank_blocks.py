"""Ranks of the blocks of one device: one pass over tiles of the similarity matrix, both directions at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.varying import vary_over, varying_axes
from alignment_jax.metrics._equal_rows import number_distinct, row_hashes
from alignment_jax.metrics._row_shards import RowShards
from alignment_jax.metrics._square_tiles import similarity_tile, stack_tiles


def rank_blocks(
    za: jax.Array,
    zb: jax.Array,
    owner: jax.Array,
    first: tuple[jax.Array, jax.Array] | None,
    *,
    sizes: tuple[int, int],
    shards: RowShards,
) -> tuple[jax.Array, jax.Array]:
    """Zero-based ranks of the rows of this device, see `ranks.retrieval_ranks`.

    Args:
      za, zb: blocks of the embeddings, padded to `shards.padded(rows) / shards.count` rows.
      owner: [m], the a-row of every b-row; whole, as is `first`.
      first: [n] and [m], the first row of every row's item; None: all rows differ.
      sizes: n and m, without padding.
      shards: of the rows of both sides.

    Returns:
      int32 blocks of rank_ab and rank_ba, with numbers of no meaning for rows that are no query.
    """
    (n, m), tile = sizes, shards.tile
    class_a, class_b = _row_classes(za, n, shards), _row_classes(zb, m, shards)
    duplicates = (class_a.max() < n - 1) | (class_b.max() < m - 1)
    row_a, row_b = jnp.arange(n, dtype=jnp.int32), jnp.arange(m, dtype=jnp.int32)
    first_a, first_b = (row_a, row_b) if first is None else first
    # The pairs of items, numbered by their first rows; a pair may repeat.
    pair_a, pair_b = first_a[owner], first_b

    own = _pair_similarities(za, zb, pair_a, pair_b, shards)
    best_a, class_of_best_b = _best(own, pair_a, class_b[pair_b], n)
    best_b, class_of_best_a = _best(own, pair_b, class_a[pair_a], m)
    rows = {
        "own": best_a,
        "own_class": class_of_best_b,
        "candidate_class": class_a,
        "item": row_a,
        "counts": first_a == row_a,
    }
    columns = {
        "own": best_b,
        "own_class": class_of_best_a,
        "candidate_class": class_b,
        "item": row_b,
        "owner": owner,
        "counts": first_b == row_b,
    }
    rows, columns = _block_tiles(za, rows, shards), _block_tiles(zb, columns, shards)
    axes = varying_axes(rows, columns)

    def each_row_tile(columns_and_count, row):
        columns, count_b = columns_and_count

        def each_column_tile(count_a, column_and_count):
            column, count = column_and_count
            s = similarity_tile(row["z"], column["z"])
            start, end = row["item"][0], row["item"][-1]
            if first is None:
                owned_here = ((column["owner"] >= start) & (column["owner"] <= end)).any()

                def related():
                    return row["item"][:, None] == column["owner"]
            else:
                i, j = pair_a - start, pair_b - column["item"][0]
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
        return (columns, count_b), count_a

    def meet(columns, count_b):
        (_, count_b), count_a = jax.lax.scan(each_row_tile, (columns, count_b), rows)
        return count_a, count_b

    count_a, count_b = (vary_over(axes, jnp.zeros_like(tiles["item"])) for tiles in (rows, columns))
    if shards.count == 1:
        rank_ab, rank_ba = meet(columns, count_b)
    else:

        def turn(carry, _):
            count_a, visiting = carry
            more, count_b = meet(*visiting)
            # The counts of a block travel with it; after all turns they are home.
            return (count_a + more, shards.shift((visiting[0], count_b))), None

        (rank_ab, (_, rank_ba)), _ = jax.lax.scan(turn, (count_a, (columns, count_b)), length=shards.count)
    return rank_ab.reshape(-1), rank_ba.reshape(-1)


def _row_classes(z: jax.Array, rows: int, shards: RowShards) -> jax.Array:
    """int32 [rows], equal exactly where rows of the whole matrix are bitwise equal."""
    first, second = (shards.whole(hashes, rows) for hashes in row_hashes(z, shards.tile))
    return number_distinct(first, second)


def _block_tiles(z: jax.Array, numbers: dict[str, jax.Array], shards: RowShards) -> dict[str, jax.Array]:
    """Tiles [t, tile, ...] of this device: of its block of z, and of its part of the numbers of all rows."""
    # Padding is item -1, without partner, and no candidate.
    block = {key: shards.own(x, fill=-1 if key in ("item", "owner") else 0) for key, x in numbers.items()}
    return {key: stack_tiles(x, shards.tile) for key, x in {"z": z, **block}.items()}


def _best(own: jax.Array, item: jax.Array, partner_class: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Largest similarity of every item to one of its own, and the class of the first partner that has it."""
    best = jax.ops.segment_max(own, item, num_segments=count)
    place = jnp.where(own == best[item], jnp.arange(len(own), dtype=jnp.int32), len(own))
    first = jnp.minimum(jax.ops.segment_min(place, item, num_segments=count), len(own) - 1)
    return best, partner_class[first]


def _pair_similarities(
    za: jax.Array, zb: jax.Array, pair_a: jax.Array, pair_b: jax.Array, shards: RowShards
) -> jax.Array:
    """S of every pair [p], from the diagonal of whole tiles, so that it rounds as its rivals do."""

    def one_tile(pairs):
        own_a, own_b = pairs
        return jnp.diagonal(similarity_tile(shards.take(za, own_a), shards.take(zb, own_b)))

    own = jax.lax.map(one_tile, tuple(stack_tiles(shards.own(pair), shards.tile) for pair in (pair_a, pair_b)))
    return shards.whole(own.reshape(-1), len(pair_a))


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
    # Sums below 2^24 in float32 are exact, and faster than integer ones on CPU.
    side = ahead_a.shape[0]
    base = 2 ** side.bit_length()
    if side * (base + 1) < 2**24:
        # Both counts are digits of one number: one array is written and read, not two.
        both = ahead_a.astype(jnp.float32) + base * ahead_b.astype(jnp.float32)
        return both.sum(axis=1).astype(jnp.int32) % base, both.sum(axis=0).astype(jnp.int32) // base
    count_a = ahead_a.astype(jnp.float32).sum(axis=1).astype(jnp.int32)
    count_b = ahead_b.astype(jnp.float32).sum(axis=0).astype(jnp.int32)
    return count_a, count_b
