"""How the similarities of each anchor spread over its candidates, in both directions, from one block of S."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from alignment_jax.core.reduce import masked_mean
from alignment_jax.similarity.dense import MASKED, DenseBlock, dense_block

Pair = tuple[jax.Array, jax.Array]


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


def dense_statistics(
    za: jax.Array, zb: jax.Array, inverse_temperature: jax.Array, where: jax.Array | None, axis_name: str | None
) -> DirectionStatistics:
    """The statistics of both directions; each needs all candidates of its anchors, so each has its own block."""
    directions = []
    for anchors, candidates in ((za, zb), (zb, za)):
        block = dense_block(anchors, candidates, where, axis_name)
        rows = _row_statistics(block, inverse_temperature)
        directions.append([masked_mean(x, where, axis_name=axis_name) for x in rows])
    (variance_ab, entropy_ab, spread_ab), (variance_ba, entropy_ba, spread_ba) = directions
    return DirectionStatistics(
        variance=(variance_ab, variance_ba), entropy=(entropy_ab, entropy_ba), spread=(spread_ab, spread_ba)
    )


def _row_statistics(block: DenseBlock, inverse_temperature: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    counts = jnp.ones_like(block.s, bool)
    if block.candidate is not None:
        counts &= block.candidate[None, :]
    n = jnp.maximum(jnp.sum(counts, axis=1), 1)
    mean = jnp.sum(jnp.where(counts, block.s, 0.0), axis=1) / n
    # Centred before it is squared: E[S²] - E[S]² loses all digits when the similarities are nearly equal.
    variance = jnp.sum(jnp.where(counts, jnp.square(block.s - mean[:, None]), 0.0), axis=1) / n
    logits = jnp.where(counts, block.s * inverse_temperature[:, None], MASKED)
    log_p = jax.nn.log_softmax(logits, axis=1)
    entropy = -jnp.sum(jnp.where(counts, jnp.exp(log_p) * log_p, 0.0), axis=1)
    high = jnp.max(jnp.where(counts, block.s, -jnp.inf), axis=1)
    low = jnp.min(jnp.where(counts, block.s, jnp.inf), axis=1)
    return variance, entropy, jnp.where(jnp.any(counts, axis=1), high - low, 0.0)
