"""The softmax over candidates in both directions, in the form that fits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.similarity.anchors import anchor_statistics, softmax_losses_of
from alignment_jax.similarity.dense import dense_block, dense_softmax
from alignment_jax.similarity.duplicates import Duplicates, mode_of
from alignment_jax.similarity.implementation import Implementation, choose
from alignment_jax.similarity.statistics import DirectionStatistics, mean_statistics
from alignment_jax.similarity.tiled_softmax import tiled_softmax


def softmax_losses(
    za: jax.Array,
    zb: jax.Array,
    inverse_temperature: jax.Array,
    where: jax.Array | None,
    similarity: str | Implementation,
    axis_name: str | None,
    duplicates: Duplicates | None = None,
    *,
    statistics: bool = False,
) -> tuple[jax.Array, jax.Array, DirectionStatistics | None, tuple[jax.Array, ...]]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair against all candidates, and with `statistics` those
    of both directions from the same sweep over S.

    With `duplicates` the last result is the mean similarity of each anchor's group (ab [n], ba [n]; see `anchors`).
    """
    layout = choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    inverse = jnp.broadcast_to(inverse_temperature, za.shape[:1])
    if layout.tile is None:
        found = dense_softmax(dense_block(za, zb, where, axis_name, duplicates), inverse, spread=statistics)
        mode = mode_of(duplicates)
        loss_ab, loss_ba = softmax_losses_of(found, inverse, mode)
        anchors = anchor_statistics(found, inverse, where, axis_name, mode) if statistics else {}
        means: tuple[jax.Array, ...] = () if mode is None else (found["mean_ab"], found["mean_ba"])
    else:
        loss_ab, loss_ba, anchors, means = tiled_softmax(layout, statistics, za, zb, inverse, where, duplicates)
    return loss_ab, loss_ba, mean_statistics(anchors, where, axis_name) if statistics else None, means
