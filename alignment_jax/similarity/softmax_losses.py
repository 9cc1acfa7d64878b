"""Cross-entropies of the softmax over candidates, dense or tiled: the one call of `losses.infonce`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import masked_count, psum_if
from alignment_jax.similarity.accumulators import anchor_statistics, cross_entropies
from alignment_jax.similarity.dense import dense_block, dense_softmax
from alignment_jax.similarity.duplicates import MASK, Duplicates, Mode, mode_of
from alignment_jax.similarity.implementation import Implementation, resolve
from alignment_jax.similarity.statistics import DirectionStatistics, mean_statistics
from alignment_jax.similarity.tiled_softmax import tiled_softmax

Pair = tuple[jax.Array, jax.Array]


class SoftmaxLosses(NamedTuple):
    """Results of `softmax_losses`.

    Args:
      ab, ba: [n] cross-entropies.
      gap_ab, gap_ba: [n] similarity to the target minus the mean similarity to the candidates; None unless requested.
      statistics: of both directions; None unless requested.
    """

    ab: jax.Array
    ba: jax.Array
    gap_ab: jax.Array | None
    gap_ba: jax.Array | None
    statistics: DirectionStatistics | None


def softmax_losses(
    za: jax.Array,
    zb: jax.Array,
    inverse_temperature: jax.Array,
    where: jax.Array | None,
    similarity: str | Implementation,
    axis_name: str | None,
    duplicates: Duplicates | None = None,
    *,
    gaps: bool = False,
    statistics: bool = False,
) -> SoftmaxLosses:
    """Cross-entropies of each sample's own pair (and its positive duplicates) against all candidates.

    `gaps` adds what label smoothing needs; `statistics` adds those of both directions, from the same sweep over S.
    """
    implementation = resolve(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    inverse = jnp.broadcast_to(inverse_temperature, za.shape[:1])
    mode = mode_of(duplicates)
    if implementation.tile is None:
        block = dense_block(za, zb, where, axis_name, duplicates, implementation.precision)
        accumulators = dense_softmax(block, inverse, statistics=statistics)
        ab, ba = cross_entropies(accumulators, inverse, mode)
        anchors = anchor_statistics(accumulators, inverse, where, axis_name, mode) if statistics else {}
        means: tuple[jax.Array, ...] = () if mode is None else (accumulators["mean_ab"], accumulators["mean_ba"])
    else:
        ab, ba, anchors, means = tiled_softmax(implementation, statistics, za, zb, inverse, where, duplicates)
    gap_ab, gap_ba = _gaps_to_candidates(za, zb, where, axis_name, mode, means) if gaps else (None, None)
    return SoftmaxLosses(ab, ba, gap_ab, gap_ba, mean_statistics(anchors, where, axis_name) if statistics else None)


def _gaps_to_candidates(za, zb, where, axis_name, mode: Mode | None, means: tuple[jax.Array, ...]) -> Pair:
    """Similarity to the target minus the mean over the anchor's candidates; `means` over its group, see
    `accumulators`."""
    if mode is None:
        return _gaps_to_all(za, zb, where, axis_name)
    own = jnp.sum(za.astype(jnp.float32) * zb.astype(jnp.float32), axis=1)
    if mode == MASK:
        return own - means[0], own - means[1]
    gap_ab, gap_ba = _gaps_to_all(za, zb, where, axis_name)
    return gap_ab + (means[0] - own), gap_ba + (means[1] - own)


def _gaps_to_all(za, zb, where, axis_name) -> Pair:
    """S_ii - mean_j S_ij in both directions. The mean partner gives mean_j S_ij without a pass over S."""
    count = jnp.maximum(masked_count(za, where, axis_name=axis_name), 1.0)
    a, b = za.astype(jnp.float32), zb.astype(jnp.float32)
    mean_a = psum_if(jnp.sum(a, axis=0), axis_name) / count
    mean_b = psum_if(jnp.sum(b, axis=0), axis_name) / count
    return jnp.sum(a * (b - mean_b), axis=1), jnp.sum(b * (a - mean_a), axis=1)
