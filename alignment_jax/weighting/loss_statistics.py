"""Variance over anchors of each direction's loss and of exp(-loss): two readings of the signal of VALS."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_where
from alignment_jax.core.masked_reductions import masked_mean
from alignment_jax.core.types import Array

Pair = tuple[jax.Array, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossStatistics:
    """Scalars of the directions (ab, ba), population variances over anchors. The fields are names of signals.

    probability: of exp(-loss). loss: of the loss.
    """

    probability: Pair
    loss: Pair


def loss_statistics(
    loss_ab: Array, loss_ba: Array, *, where: Array | None = None, axis_name: str | None = None
) -> LossStatistics:
    """Population variance over anchors of each direction's loss and of exp(-loss).

    probability_ab = Var_i exp(-loss_ab_i),  loss_ab = Var_i loss_ab_i,  and the same of ba

    For InfoNCE exp(-loss) is the probability that the anchor's softmax gives to its own partner, among its candidates
    (with masked duplicates: without them). With label smoothing, or duplicates as positives, the target q has several
    entries and exp(-loss) is the geometric mean Π_j p_ij^q_ij of their probabilities. It is taken of the loss that is
    weighted, smoothing included. exp(-loss) of a loss that is not a cross-entropy is no probability.

    Args:
      loss_ab: [n] losses, direction ab.
      loss_ba: [n] losses, direction ba.
      where: [n] bool, rows that count; None for all.
      axis_name: mesh axis over which the rows are sharded; the variances are then those of the whole batch.

    Returns:
      `LossStatistics`; float32 scalars without gradients, 0 when no row counts.

    Raises:
      ValueError: a shape does not fit; the message names the argument.

    >>> statistics = loss_statistics(jnp.log(jnp.array([1.0, 2.0])), jnp.array([1.0, 5.0]))
    >>> [round(float(x), 4) for x in (statistics.probability[0], statistics.loss[1])]
    [0.0625, 4.0]

    Source: Pillai, VALS (arXiv 2503.03202), "variability in the model's alignment predictions"; no code is public, and
    both variances are readings of that sentence.
    """
    loss_ab, loss_ba = (jax.lax.stop_gradient(jnp.asarray(loss, jnp.float32)) for loss in (loss_ab, loss_ba))
    if loss_ab.ndim != 1:
        raise ValueError(f"loss_ab must have shape [n], got {loss_ab.shape}")
    if loss_ba.shape != loss_ab.shape:
        raise ValueError(f"loss_ba must have the shape of loss_ab {loss_ab.shape}, got {loss_ba.shape}")
    check_where(where, loss_ab.shape[0])
    values = jnp.stack([jnp.exp(-loss_ab), jnp.exp(-loss_ba), loss_ab, loss_ba], axis=1)
    # Around the global mean: E[x²] - E[x]² cancels where all losses are alike.
    mean = masked_mean(values, where, axis_name=axis_name)
    of = masked_mean((values - mean) ** 2, where, axis_name=axis_name)
    return LossStatistics(probability=(of[0], of[1]), loss=(of[2], of[3]))
