"""InfoNCE in both directions, with a temperature per anchor and smoothed targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_number
from alignment_jax.core.types import Array
from alignment_jax.losses.argument_checks import checked_arguments, zero_masked
from alignment_jax.similarity.implementation import Implementation
from alignment_jax.similarity.softmax_losses import softmax_losses
from alignment_jax.similarity.statistics import DirectionStatistics


def infonce(
    za: Array,
    zb: Array,
    *,
    temperature: Array | float = 0.07,
    smoothing: Array | float = 0.0,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Implementation = "auto",
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    duplicates: str = "mask",
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of each sample's own partner among all candidates, in both directions.

    With S = za zbᵀ and q_ij = (1 - α) [i = j] + α / n:
      loss_ab_i = -Σ_j q_ij log softmax_j(S_ij / τ_i)
      loss_ba_i = -Σ_j q_ij log softmax_j(S_ji / τ_i)

    Args:
      za, zb: [n, d] embeddings; normalise first (`l2_normalize`). Half-width inputs are multiplied in their own type
        and summed in float32.
      temperature: τ, scalar or [n]; the anchor's own, in both directions, so that the two logit matrices are not
        transposes of each other.
      smoothing: α in [0, 1), scalar, may be traced; n is the number of rows that count, over the axis.
      where: [n] bool, rows that count, or None for all; a masked row is no candidate and its losses are 0.
      axis_name: mesh axis that the rows are sharded over, in order, or None.
      similarity: "auto", "dense", "tiled", "gathered" or "ring", also with a tile ("tiled:512"), or a
        `alignment_jax.similarity.Implementation`. It changes speed and memory, not the result. Forward mode (`jax.jvp`,
        `jax.jacfwd`, `jax.linearize`) needs "dense": the others have hand-written reverse-mode gradients, also where
        "auto" chooses them. Gradients of gradients, and forward mode over `jax.grad`, work in all but "pallas".
      ids_a, ids_b: [n] integers, or None: rows with equal numbers have equal items on that side (or [n, k], k numbers
        together are one id). Rows j ≠ i with ids_a[j] = ids_a[i] or ids_b[j] = ids_b[i] are duplicates of i, over the
        axis; ids of masked rows do not matter. With ids "pallas" is "tiled".
      duplicates: treatment of duplicates of i. "mask": no candidates; n in α / n is then the number of candidates of i.
        "positive": they share the target, q_ij = (1 - α) / k + α / n for the partner and its k - 1 duplicates.
        "negative": candidates like any other, as without ids.

    Returns:
      (loss_ab [n], loss_ba [n]), float32.

    Raises:
      ValueError: a shape does not fit, the temperature is not positive or the smoothing is outside [0, 1).

    >>> z = jnp.eye(3)
    >>> loss_ab, loss_ba = infonce(z, z, temperature=0.5)
    >>> loss_ab.tolist()
    [0.23..., 0.23..., 0.23...]
    >>> infonce(z, z, temperature=0.5, ids_b=jnp.array([0, 0, 1]))[0].tolist()  # the first two have one caption
    [0.12..., 0.12..., 0.23...]

    Source: van den Oord et al. 2018 (arXiv 1807.03748) and CLIP (Radford et al. 2021, section 2.3); the temperature per
    anchor is MM-TS (Sheludzko et al. 2026, arXiv 2603.08202), smoothed targets are Modest-Align (Liu et al. 2025,
    arXiv 2510.21606) in the convention of PyTorch's label smoothing. The authors' code averages; here every
    sample is returned, see `reduce`.
    """
    ids = ids_a, ids_b, duplicates
    loss_ab, loss_ba, _ = _infonce(za, zb, temperature, smoothing, where, axis_name, similarity, ids, statistics=False)
    return loss_ab, loss_ba


def infonce_with_statistics(
    za: Array,
    zb: Array,
    *,
    temperature: Array | float = 0.07,
    smoothing: Array | float = 0.0,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Implementation = "auto",
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    duplicates: str = "mask",
) -> tuple[jax.Array, jax.Array, DirectionStatistics]:
    """`infonce`, and `weighting.direction_statistics` at the same temperature, from one sweep over S.

    Args:
      za, zb, temperature, smoothing, where, axis_name, similarity, ids_a, ids_b, duplicates: as in `infonce`; the
        statistics of an anchor are over its own candidates too.

    Returns:
      (loss_ab [n], loss_ba [n], statistics); float32, the statistics scalars without gradients.

    Raises:
      ValueError: as `infonce`.

    >>> loss_ab, loss_ba, statistics = infonce_with_statistics(jnp.eye(2), jnp.eye(2), temperature=1.0)
    >>> [round(float(x), 4) for x in (loss_ab[0], *statistics.variance)]
    [0.3133, 0.25, 0.25]
    """
    ids = ids_a, ids_b, duplicates
    return _infonce(za, zb, temperature, smoothing, where, axis_name, similarity, ids, statistics=True)


def _infonce(za, zb, temperature, smoothing, where, axis_name, similarity, ids, *, statistics):
    check_number("temperature", temperature, lambda t: t > 0, "positive")
    check_number("smoothing", smoothing, lambda a: 0 <= a < 1, "in [0, 1)")
    if jnp.ndim(smoothing):
        raise ValueError(f"smoothing must be a scalar, got shape {jnp.shape(smoothing)}")
    za, zb, where, duplicates, values = checked_arguments(za, zb, where, axis_name, ids, temperature=temperature)
    inverse = 1.0 / values["temperature"]
    smoothed = not (isinstance(smoothing, (int, float)) and smoothing == 0)
    losses = softmax_losses(
        za, zb, inverse, where, similarity, axis_name, duplicates, gaps=smoothed, statistics=statistics
    )
    loss_ab, loss_ba = losses.ab, losses.ba
    if smoothed:
        # -Σ_j q_ij log p_ij = -log p_ii + α (S_ii - mean_j S_ij) / τ_i
        loss_ab = loss_ab + smoothing * inverse * losses.gap_ab
        loss_ba = loss_ba + smoothing * inverse * losses.gap_ba
    return zero_masked(loss_ab, where), zero_masked(loss_ba, where), losses.statistics
