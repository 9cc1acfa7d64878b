"""Variance, entropy and range of the similarities over candidates, in both directions."""

from __future__ import annotations

import dataclasses

import jax

from alignment_jax.core.masked_reductions import masked_mean
from alignment_jax.similarity.accumulators import anchor_statistics
from alignment_jax.similarity.dense import dense_block, dense_softmax
from alignment_jax.similarity.implementation import Implementation, resolve
from alignment_jax.similarity.tiled_softmax import sweep_softmax

Pair = tuple[jax.Array, jax.Array]
_NAMES = ("variance", "entropy", "spread")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DirectionStatistics:
    """Means over the anchors of each direction, pairs (ab, ba) of float32 scalars.

    variance: population variance of S over the candidates. entropy: of the softmax over candidates, in nats.
    spread: largest minus smallest S.
    """

    variance: Pair
    entropy: Pair
    spread: Pair


def similarity_statistics(
    za: jax.Array,
    zb: jax.Array,
    inverse_temperature: jax.Array,
    where: jax.Array | None,
    similarity: str | Implementation,
    axis_name: str | None,
) -> DirectionStatistics:
    """The statistics of both directions, not differentiable; `inverse_temperature` [n]."""
    implementation = resolve(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    if implementation.tile is None:
        block = dense_block(za, zb, where, axis_name)
        accumulators = dense_softmax(block, inverse_temperature, statistics=True)
    else:
        accumulators = sweep_softmax(
            implementation, za, zb, inverse_temperature, where, weighted_sum=True, statistics=True
        )
    anchors = anchor_statistics(accumulators, inverse_temperature, where, axis_name)
    return mean_statistics(anchors, where, axis_name)


def mean_statistics(
    anchors: dict[str, jax.Array], where: jax.Array | None, axis_name: str | None
) -> DirectionStatistics:
    """Means over the anchors [n] that count, over the axis, of "variance_ab", "variance_ba" and so on; constants."""
    anchors = jax.lax.stop_gradient(anchors)
    means = {name: masked_mean(value, where, axis_name=axis_name) for name, value in anchors.items()}
    return DirectionStatistics(**{name: (means[f"{name}_ab"], means[f"{name}_ba"]) for name in _NAMES})
