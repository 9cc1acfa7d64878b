"""SigLIP: a logistic loss for every pair of the batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array
from alignment_jax.losses.argument_checks import checked_arguments, zero_masked
from alignment_jax.similarity.implementation import Implementation
from alignment_jax.similarity.pair_functions import LOGISTIC
from alignment_jax.similarity.pairwise_losses import pairwise_losses


def sigmoid(
    za: Array,
    zb: Array,
    *,
    scale: Array | float = 10.0,
    bias: Array | float = -10.0,
    where: Array | None = None,
    axis_name: str | None = None,
    similarity: str | Implementation = "auto",
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    duplicates: str = "mask",
) -> jax.Array:
    """Logistic loss of each sample's own partner against every other candidate.

    loss_i = Σ_j softplus(-y_ij (s S_ij + b)), with S = za zbᵀ, y_ii = 1 and y_ij = -1 elsewhere.

    Args:
      za, zb: [n, d] embeddings; normalise first (`l2_normalize`).
      scale: s, scalar; the inverse of a temperature.
      bias: b, scalar, in logits; with -10 training starts with almost every pair classified as a negative.
      where: [n] bool, rows that count, or None for all; a masked row is no candidate and its loss is 0.
      axis_name: mesh axis that the rows are sharded over, in order, or None.
      similarity: as in `infonce`; forward mode (`jax.jvp`, `jax.jacfwd`, `jax.linearize`) needs "dense".
      ids_a, ids_b: which rows have equal items, as in `infonce`.
      duplicates: treatment of duplicates. "mask": no candidates; "positive": pairs, y_ij = 1; "negative": y_ij = -1.

    Returns:
      loss [n], float32, a sum over candidates; the mean over rows (`reduce`) is the published loss.

    Raises:
      ValueError: a shape does not fit.

    >>> z = jnp.eye(2)
    >>> sigmoid(z, z, scale=1.0, bias=0.0).tolist()
    [1.006..., 1.006...]

    Source: Zhai et al. 2023 (arXiv 2303.15343), algorithm 1; there both sums are divided by n, here every row is
    returned.
    """
    if jnp.ndim(scale) or jnp.ndim(bias):
        raise ValueError(f"scale and bias must be scalars, got shapes {jnp.shape(scale)} and {jnp.shape(bias)}")
    ids = ids_a, ids_b, duplicates
    za, zb, where, equal, values = checked_arguments(za, zb, where, axis_name, ids, scale=scale, bias=bias)
    offset = jnp.broadcast_to(values["bias"], za.shape[:1])
    (loss,), *_ = pairwise_losses(LOGISTIC, za, zb, values["scale"], offset, where, similarity, axis_name, equal)
    return zero_masked(loss, where)
