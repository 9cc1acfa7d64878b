"""InfoNCE in both directions, with a temperature per anchor and smoothed targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_number
from alignment_jax.core.reduce import psum_if
from alignment_jax.core.types import Array
from alignment_jax.losses.inputs import global_count, prepare, silence
from alignment_jax.similarity.form import Form
from alignment_jax.similarity.softmax import softmax_losses
from alignment_jax.similarity.statistics import DirectionStatistics


def infonce(
    za: Array,
    zb: Array,
    *,
    temperature: Array | float = 0.07,
    smoothing: Array | float = 0.0,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Form = "auto",
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of picking each sample's own partner among all candidates, in both directions.

    With S = za zbᵀ and q_ij = (1 - α) [i = j] + α / n:
      loss_ab_i = -Σ_j q_ij log softmax_j(S_ij / τ_i)
      loss_ba_i = -Σ_j q_ij log softmax_j(S_ji / τ_i)

    Args:
      za, zb: [n, d] embeddings, used as they are: normalise first (`l2_normalize`). Half-width inputs are multiplied
        as they are and summed in float32.
      temperature: τ, scalar or [n]; the anchor's own, in both directions, so that the two logit matrices are not
        transposes of each other.
      smoothing: α in [0, 1), scalar, may be traced; n is the number of rows that count, over the axis.
      where: [n] bool, rows that count, or None for all; a masked row is no candidate and its losses are 0.
      axis_name: mesh axis that the rows are sharded over, in order, or None.
      similarity: "auto", "dense", "tiled", "gathered" or "ring", also with a tile ("tiled:512"), or a
        `alignment_jax.similarity.Form`; a choice of speed and memory that leaves the result alone. Forward mode
        (`jax.jvp`, `jax.jacfwd`, `jax.linearize`) needs "dense": the others have hand-written reverse-mode gradients,
        also where "auto" chooses them. Gradients of gradients, and forward mode over `jax.grad`, work in all forms but
        "pallas".

    Returns:
      (loss_ab [n], loss_ba [n]), float32.

    Raises:
      ValueError: a shape does not fit, the temperature is not positive or the smoothing is outside [0, 1).

    >>> z = jnp.eye(3)
    >>> loss_ab, loss_ba = infonce(z, z, temperature=0.5)
    >>> loss_ab.tolist()
    [0.23..., 0.23..., 0.23...]

    Source: van den Oord et al. 2018 (arXiv 1807.03748) and CLIP (Radford et al. 2021, section 2.3); the temperature per
    anchor is MM-TS (Sheludzko et al. 2026, arXiv 2603.08202), smoothed targets are Modest-Align (Liu et al. 2025,
    arXiv 2510.21606) in the convention of PyTorch's label smoothing. The authors' code averages; we return every
    sample, see `reduce`.
    """
    loss_ab, loss_ba, _ = _infonce(za, zb, temperature, smoothing, where, axis_name, similarity, statistics=False)
    return loss_ab, loss_ba


def infonce_with_statistics(
    za: Array,
    zb: Array,
    *,
    temperature: Array | float = 0.07,
    smoothing: Array | float = 0.0,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Form = "auto",
) -> tuple[jax.Array, jax.Array, DirectionStatistics]:
    """`infonce`, and `weighting.direction_statistics` at the same temperature, from one sweep over S.

    Args:
      za, zb, temperature, smoothing, where, axis_name, similarity: as in `infonce`.

    Returns:
      (loss_ab [n], loss_ba [n], statistics); float32, the statistics scalars without gradients.

    Raises:
      ValueError: as `infonce`.

    >>> loss_ab, loss_ba, statistics = infonce_with_statistics(jnp.eye(2), jnp.eye(2), temperature=1.0)
    >>> [round(float(x), 4) for x in (loss_ab[0], *statistics.variance)]
    [0.3133, 0.25, 0.25]
    """
    loss_ab, loss_ba, found = _infonce(za, zb, temperature, smoothing, where, axis_name, similarity, statistics=True)
    return loss_ab, loss_ba, found


def _infonce(za, zb, temperature, smoothing, where, axis_name, similarity, *, statistics):
    check_number("temperature", temperature, lambda t: t > 0, "positive")
    check_number("smoothing", smoothing, lambda a: 0 <= a < 1, "in [0, 1)")
    za, zb, where, values = prepare(za, zb, where, axis_name, temperature=temperature)
    inverse = 1.0 / values["temperature"]
    loss_ab, loss_ba, found = softmax_losses(za, zb, inverse, where, similarity, axis_name, statistics=statistics)
    if not (isinstance(smoothing, (int, float)) and smoothing == 0):
        if jnp.ndim(smoothing):
            raise ValueError(f"smoothing must be a scalar, got shape {jnp.shape(smoothing)}")
        gap_ab, gap_ba = _gap_to_mean(za, zb, where, axis_name)
        loss_ab = loss_ab + smoothing * inverse * gap_ab
        loss_ba = loss_ba + smoothing * inverse * gap_ba
    return silence(loss_ab, where), silence(loss_ba, where), found


def _gap_to_mean(
    za: jax.Array, zb: jax.Array, where: jax.Array | None, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """S_ii - mean_j S_ij in both directions. Smoothing adds α/τ times it to the loss, so the mean partner is all that
    it needs of the other rows: no pass over S."""
    count = jnp.maximum(global_count(za, where, axis_name), 1.0)
    a, b = za.astype(jnp.float32), zb.astype(jnp.float32)
    mean_a = psum_if(jnp.sum(a, axis=0), axis_name) / count
    mean_b = psum_if(jnp.sum(b, axis=0), axis_name) / count
    return jnp.sum(a * (b - mean_b), axis=1), jnp.sum(b * (a - mean_a), axis=1)
