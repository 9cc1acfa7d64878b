"""Variance, entropy and range of the similarities of each direction, the signals of VALS."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_pair, check_scalar_or_rows
from alignment_jax.core.types import Array
from alignment_jax.core.varying import vary_together
from alignment_jax.similarity.implementation import Implementation
from alignment_jax.similarity.statistics import DirectionStatistics, similarity_statistics


def direction_statistics(
    za: Array,
    zb: Array,
    *,
    temperature: Array | float,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Implementation = "auto",
) -> DirectionStatistics:
    """Variance, entropy and spread of the similarities S = za zbᵀ, for anchors in a (ab) and anchors in b (ba).

    variance_ab = mean_i Var_j S_ij,  entropy_ab = mean_i H(softmax_j(S_ij / τ_i)),
    spread_ab = mean_i (max_j S_ij - min_j S_ij)

    Args:
      za: [n, d] embeddings.
      zb: [n, d] embeddings, row i the pair of row i of `za`.
      temperature: scalar or [n], positive; only the entropy depends on it.
      where: [n] bool, rows that count as anchors and as candidates; None for all.
      axis_name: mesh axis over which the rows are sharded; the statistics are then those of the whole batch.
      similarity: implementation, as in `losses.infonce`; beyond a small batch its memory is linear in n.

    Returns:
      `DirectionStatistics`; float32 scalars without gradients, 0 when no row counts.

    Raises:
      ValueError: a shape does not fit; the message names the argument.

    >>> z = jnp.eye(2)
    >>> statistics = direction_statistics(z, z, temperature=1.0)
    >>> [round(float(x), 4) for x in (*statistics.variance, *statistics.spread)]
    [0.25, 0.25, 1.0, 1.0]

    Source: Pillai, VALS (arXiv 2503.03202); no code is public; the population variance over candidates averaged over
    anchors is our reading.
    """
    za, zb = jnp.asarray(za), jnp.asarray(zb)
    check_pair(za, zb, where)
    check_scalar_or_rows("temperature", temperature, za.shape[0])
    za, zb, temperature = jax.lax.stop_gradient((za, zb, jnp.asarray(temperature, jnp.float32)))
    if where is not None:
        where = jnp.asarray(where)
        za, zb = (jnp.where(where[:, None], z, 0) for z in (za, zb))
        temperature = jnp.where(where, temperature, 1.0)
    za, zb, where, temperature = vary_together((za, zb, where, temperature), axis_name)
    inverse = jnp.broadcast_to(1.0 / temperature, za.shape[:1])
    return similarity_statistics(za, zb, inverse, where, similarity, axis_name)
