"""Sums of a pair's loss over candidates, dense or tiled: the one call of `losses.max_margin` and `losses.sigmoid`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alignment_jax.similarity.accumulators import anchor_statistics
from alignment_jax.similarity.dense import DenseBlock, dense_block, dense_softmax
from alignment_jax.similarity.duplicates import MASK, POSITIVE, Duplicates, mode_of
from alignment_jax.similarity.implementation import Implementation, resolve
from alignment_jax.similarity.pair_functions import PairFunction
from alignment_jax.similarity.statistics import DirectionStatistics, mean_statistics
from alignment_jax.similarity.tiled_pairwise import tiled_pairwise


class PairwiseLosses(NamedTuple):
    """Results of `pairwise_losses`.

    Args:
      sums: sums over candidates, (ab [n], ba [n]), or (ab [n],) for a function of one direction.
      statistics: of both directions; None unless requested.
      others: candidates of each anchor besides its own partner, in either direction, [n]; None unless a function of two
        directions masks duplicates.
    """

    sums: tuple[jax.Array, ...]
    statistics: DirectionStatistics | None
    others: jax.Array | None


def pairwise_losses(
    function: PairFunction,
    za: jax.Array,
    zb: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    where: jax.Array | None,
    similarity: str | Implementation,
    axis_name: str | None,
    duplicates: Duplicates | None = None,
    *,
    inverse_temperature: jax.Array | None = None,
) -> PairwiseLosses:
    """Sums of `function` over candidates; `offset` [n] is the anchor's u.

    An `inverse_temperature` [n] adds the statistics of both directions, from the same sweep over S.
    """
    implementation = resolve(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    if implementation.tile is not None:
        sums, anchors, others = tiled_pairwise(
            function, implementation, za, zb, scale, offset, where, inverse_temperature, duplicates
        )
    else:
        block, anchors, others = dense_block(za, zb, where, axis_name, duplicates, implementation.precision), {}, None
        sums = _dense_sums(function, block, scale, offset)
        if function.both and block.mode == MASK:
            others = jnp.sum((block.group(block.in_rows()) & ~block.own_pair).astype(jnp.float32), axis=1)
        if inverse_temperature is not None:
            accumulators = dense_softmax(block, inverse_temperature, statistics=True)
            anchors = anchor_statistics(accumulators, inverse_temperature, where, axis_name, mode_of(duplicates))
    statistics = None if inverse_temperature is None else mean_statistics(anchors, where, axis_name)
    return PairwiseLosses(sums, statistics, others)


def _dense_sums(
    function: PairFunction, block: DenseBlock, scale: jax.Array, offset: jax.Array
) -> tuple[jax.Array, ...]:
    def candidates(terms: jax.Array, counts: jax.Array | None) -> jax.Array:
        return terms if counts is None else jnp.where(counts, terms, 0.0)

    positive = block.own_pair
    if block.duplicates is not None and block.mode == POSITIVE:
        positive = positive | block.duplicates
    t = scale * block.s + offset[:, None]
    rows = jnp.sum(candidates(function.value(t, positive), block.in_rows()), axis=1)
    if not function.both:
        return (rows,)
    t = scale * block.s + block.all_columns(offset)[None, :]
    return rows, block.add_columns(candidates(function.value(t, positive), block.in_columns()))
