"""How the similarities of each anchor spread over its candidates, in both directions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from alignment_jax.core.reduce import masked_mean
from alignment_jax.similarity.dense import MASKED, DenseBlock, dense_block
from alignment_jax.similarity.form import Form, choose
from alignment_jax.similarity.tiled_softmax import anchor_statistics, sweep_softmax

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
    similarity: str | Form,
    axis_name: str | None,
) -> DirectionStatistics:
    """The statistics of both directions; `inverse_temperature` [n]. Not to be differentiated."""
    layout = choose(similarity, rows=za.shape[0], dim=za.shape[1], axis_name=axis_name)
    if layout.tile is None:
        return dense_statistics(za, zb, inverse_temperature, where, axis_name)
    found = sweep_softmax(layout, za, zb, inverse_temperature, where, tilt=True, spread=True)
    return mean_statistics(anchor_statistics(found, where, axis_name), where, axis_name)


def mean_statistics(
    anchors: dict[str, jax.Array], where: jax.Array | None, axis_name: str | None
) -> DirectionStatistics:
    """Means over the anchors [n] that count, over the axis, of "variance_ab", "variance_ba" and so on."""
    means = {name: masked_mean(value, where, axis_name=axis_name) for name, value in anchors.items()}
    return DirectionStatistics(**{name: (means[f"{name}_ab"], means[f"{name}_ba"]) for name in _NAMES})


def dense_statistics(
    za: jax.Array, zb: jax.Array, inverse_temperature: jax.Array, where: jax.Array | None, axis_name: str | None
) -> DirectionStatistics:
    """The statistics of both directions; each needs all candidates of its anchors, so each has its own block."""
    anchors = {}
    for direction, (rows, columns) in (("ab", (za, zb)), ("ba", (zb, za))):
        block = dense_block(rows, columns, where, axis_name)
        for name, value in zip(_NAMES, _row_statistics(block, inverse_temperature), strict=True):
            anchors[f"{name}_{direction}"] = value
    return mean_statistics(anchors, where, axis_name)


def _row_statistics(block: DenseBlock, inverse_temperature: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    counts = jnp.ones_like(block.s, bool)
    if block.candidate is not None:
        counts &= block.candidate[None, :]
    n = jnp.maximum(jnp.sum(counts, axis=1), 1)
    mean = jnp.sum(jnp.where(counts, block.s, 0.0), axis=1) / n
    # Centred before it is squared: E[S²] - E[S]² loses all digits when the similarities are nearly equal.
    variance = jnp.sum(jnp.where(counts, jnp.square(block.s - mean[:, None]), 0.0), axis=1) / n
    high = jnp.max(jnp.where(counts, block.s, -jnp.inf), axis=1)
    low = jnp.min(jnp.where(counts, block.s, jnp.inf), axis=1)
    # Below the largest logit, in an order of operations that no fused multiply-add can spoil (see `dense_softmax`).
    inverse = inverse_temperature[:, None]
    top = jnp.where(inverse < 0, low[:, None], high[:, None])
    below = jnp.where(counts, (block.s - top) * inverse, MASKED)
    power = jnp.exp(below)
    total = jnp.maximum(jnp.sum(power, axis=1), 1.0)
    # H = log Σ exp(below) - Σ p below: neither term is negative.
    entropy = jnp.log(total) - jnp.sum(jnp.where(power > 0, power * below, 0.0), axis=1) / total
    return variance, entropy, jnp.where(jnp.any(counts, axis=1), high - low, 0.0)
