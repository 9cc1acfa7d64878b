"""Max-margin ranking in both directions, with a margin per anchor."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array
from alignment_jax.losses.argument_checks import checked_arguments, global_count, zero_masked
from alignment_jax.similarity.implementation import Implementation
from alignment_jax.similarity.pair_functions import HINGE
from alignment_jax.similarity.pairwise_losses import pairwise_losses
from alignment_jax.similarity.statistics import DirectionStatistics


def max_margin(
    za: Array,
    zb: Array,
    *,
    margin: Array | float = 0.2,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Implementation = "auto",
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    duplicates: str = "mask",
) -> tuple[jax.Array, jax.Array]:
    """Mean violation of a margin between each sample's own partner and the other candidates, in both directions.

    With S = za zbᵀ and n rows that count:
      loss_ab_i = 1/(n - 1) Σ_{j≠i} relu(m_i - S_ii + S_ij)
      loss_ba_i = 1/(n - 1) Σ_{j≠i} relu(m_i - S_ii + S_ji)

    Args:
      za, zb: [n, d] embeddings; normalise first (`l2_normalize`).
      margin: m, scalar or [n], in units of similarity; the anchor's own, in both directions.
      where: [n] bool, rows that count, or None for all; a masked row is no candidate and its losses are 0.
      axis_name: mesh axis that the rows are sharded over, in order, or None.
      similarity: as in `infonce`; forward mode (`jax.jvp`, `jax.jacfwd`, `jax.linearize`) needs "dense".
      ids_a, ids_b: which rows have equal items, as in `infonce`.
      duplicates: "mask", duplicates are no candidates, and the mean is over the others; "negative", they are
        candidates like any other. "positive" is an error: this loss has no target to share.

    Returns:
      (loss_ab [n], loss_ba [n]), float32; 0 where there is no other candidate.

    Raises:
      ValueError: a shape does not fit, or duplicates is "positive".

    >>> z = jnp.eye(3)
    >>> loss_ab, loss_ba = max_margin(z, z, margin=1.5)
    >>> loss_ab.tolist()
    [0.5, 0.5, 0.5]

    Source: MM-TS (Sheludzko et al. 2026, arXiv 2603.08202), with the diagonal left out as in the authors' default.
    Deviations: the authors normalise inside and average; n = 1 is NaN there and 0 here.
    """
    loss_ab, loss_ba, _ = _max_margin(za, zb, margin, None, where, axis_name, similarity, (ids_a, ids_b, duplicates))
    return loss_ab, loss_ba


def max_margin_with_statistics(
    za: Array,
    zb: Array,
    *,
    margin: Array | float = 0.2,
    temperature: Array | float = 0.07,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Implementation = "auto",
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    duplicates: str = "mask",
) -> tuple[jax.Array, jax.Array, DirectionStatistics]:
    """`max_margin`, and `weighting.direction_statistics` at a temperature, from one sweep over S.

    Args:
      za, zb, margin, where, axis_name, similarity, ids_a, ids_b, duplicates: as in `max_margin`; the statistics of an
        anchor are over its own candidates too.
      temperature: scalar or [n], positive; only the entropy depends on it.

    Returns:
      (loss_ab [n], loss_ba [n], statistics); float32, the statistics scalars without gradients.

    Raises:
      ValueError: a shape does not fit.

    >>> z = jnp.eye(2)
    >>> loss_ab, loss_ba, statistics = max_margin_with_statistics(z, z, margin=1.5)
    >>> [round(float(x), 4) for x in (loss_ab[0], *statistics.variance)]
    [0.5, 0.25, 0.25]
    """
    return _max_margin(za, zb, margin, temperature, where, axis_name, similarity, (ids_a, ids_b, duplicates))


def _max_margin(za, zb, margin, temperature, where, axis_name, similarity, ids):
    scalars = {"margin": margin} if temperature is None else {"margin": margin, "temperature": temperature}
    za, zb, where, duplicates, values = checked_arguments(
        za, zb, where, axis_name, ids, ("mask", "negative"), **scalars
    )
    threshold = margin_threshold(za, zb, values["margin"])
    inverse = None
    if temperature is not None:
        inverse = jnp.broadcast_to(jax.lax.stop_gradient(1.0 / values["temperature"]), za.shape[:1])
    one = jnp.float32(1.0)
    (sum_ab, sum_ba), statistics, others = pairwise_losses(
        HINGE, za, zb, one, threshold, where, similarity, axis_name, duplicates, inverse_temperature=inverse
    )
    others = global_count(za, where, axis_name) - 1.0 if others is None else jax.lax.stop_gradient(others)
    others = jnp.maximum(others, 1.0)
    return zero_masked(sum_ab / others, where), zero_masked(sum_ba / others, where), statistics


def margin_threshold(za: jax.Array, zb: jax.Array, margin: jax.Array) -> jax.Array:
    """m_i - S_ii [n]; plus S_ij it is the violation of the margin by candidate j."""
    return margin - jnp.sum(za.astype(jnp.float32) * zb.astype(jnp.float32), axis=1)
