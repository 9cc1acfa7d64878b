"""How the similarities of each anchor spread over its candidates, in both directions."""

from __future__ import annotations

import dataclasses

import jax

from alignment_jax.core.masked_reductions import masked_mean
from alignment_jax.similarity.anchors import Found, anchor_statistics
from alignment_jax.similarity.dense import dense_block, dense_softmax
from alignment_jax.similarity.implementation import Implementation, choose
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
    """The statistics of both directions; `inverse_temperature` [n]. Not to be differentiated."""
    layout = choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    if layout.tile is None:
        found = dense_softmax(dense_block(za, zb, where, axis_name), inverse_temperature, spread=True)
    else:
        found = sweep_softmax(layout, za, zb, inverse_temperature, where, tilt=True, spread=True)
    return mean_statistics(anchor_statistics(found, inverse_temperature, where, axis_name), where, axis_name)


def mean_statistics(anchors: Found, where: jax.Array | None, axis_name: str | None) -> DirectionStatistics:
    """Means over the anchors [n] that count, over the axis, of "variance_ab", "variance_ba" and so on; constants."""
    anchors = jax.lax.stop_gradient(anchors)
    means = {name: masked_mean(value, where, axis_name=axis_name) for name, value in anchors.items()}
    return DirectionStatistics(**{name: (means[f"{name}_ab"], means[f"{name}_ba"]) for name in _NAMES})
