"""The softmax over candidates in both directions, in the form that fits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.similarity.dense import dense_block, dense_softmax
from alignment_jax.similarity.form import Form, choose
from alignment_jax.similarity.statistics import DirectionStatistics, dense_statistics, mean_statistics
from alignment_jax.similarity.tiled_softmax import tiled_softmax


def softmax_losses(
    za: jax.Array,
    zb: jax.Array,
    inverse_temperature: jax.Array,
    where: jax.Array | None,
    similarity: str | Form,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair against all candidates."""
    layout = choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    inverse = jnp.broadcast_to(inverse_temperature, za.shape[:1])
    if layout.tile is None:
        return dense_softmax(dense_block(za, zb, where, axis_name), inverse)
    loss_ab, loss_ba, _ = tiled_softmax(layout, False, za, zb, inverse, where)
    return loss_ab, loss_ba


def softmax_losses_with_statistics(
    za: jax.Array,
    zb: jax.Array,
    inverse_temperature: jax.Array,
    where: jax.Array | None,
    similarity: str | Form,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, DirectionStatistics]:
    """`softmax_losses`, and the statistics of both directions from the same sweep over S."""
    layout = choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    inverse = jnp.broadcast_to(inverse_temperature, za.shape[:1])
    if layout.tile is None:
        # Two expressions of one product: the compiler makes it once.
        loss_ab, loss_ba = dense_softmax(dense_block(za, zb, where, axis_name), inverse)
        constants = jax.lax.stop_gradient((za, zb, inverse))
        return loss_ab, loss_ba, dense_statistics(*constants, where, axis_name)
    loss_ab, loss_ba, anchors = tiled_softmax(layout, True, za, zb, inverse, where)
    return loss_ab, loss_ba, mean_statistics(jax.lax.stop_gradient(anchors), where, axis_name)
