"""STRUCTURE: the neighbours of a sample among the aligned latents are those among the original ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, l2_normalize, masked_count, masked_sum
from alignment_jax.core.checks import check_number, check_where
from alignment_jax.core.varying import vary_together
from alignment_jax.similarity.dense import MASKED
from alignment_jax.similarity.products import matmul


def structure(
    original: Array,
    aligned: Array,
    *,
    temperature: Array | float = 0.05,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Divergence between each sample's neighbours before and after the alignment of one side.

    Z = unit rows, less their mean over the batch
    P = softmax over the rows of Z Zᵀ / temperature, of the original latents; Q of the aligned ones
    result_i = JS(P_i, Q_i) = ½ KL(P_i | M_i) + ½ KL(Q_i | M_i), M = ½ (P + Q)

    A sample is its own neighbour, too. Scaling and rotating the latents change nothing. The loss of a batch is
    InfoNCE + λ / 2 · (mean of the result of side a + mean of the result of side b).

    Memory: [n, N] blocks, n rows of this device and N rows of the batch on all devices.

    Args:
      original: [n, d] latents of the frozen encoder; any unit.
      aligned: [n, k] latents of the same rows after the alignment; any unit.
      temperature: of both softmaxes.
      where: [n] bool, rows that count, or None for all; a masked row is no neighbour, and its result is 0.
      axis_name: mesh axis that the rows are sharded over, in order, or None; mean and softmax are of the whole batch.

    Returns:
      [n] float32 in [0, log 2].

    Raises:
      ValueError: a shape does not fit, or the temperature is not positive.

    >>> z = jnp.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2]])
    >>> float(structure(z, 5.0 * z[:, ::-1]).max()) < 1e-6  # exchanged coordinates: the same neighbours
    True
    >>> [round(float(x), 2) for x in structure(z, z[jnp.array([2, 0, 1])], temperature=1.0)]
    [0.12, 0.1, 0.12]

    Source: Gröger et al., With limited data for multimodal alignment, let the STRUCTURE guide you (NeurIPS 2025, arXiv
    2506.16895), with one level of neighbours. Deviation: the divergence is computed from logarithms without the small
    constants that the authors' code adds to P and Q.
    """
    original, aligned = jnp.asarray(original), jnp.asarray(aligned)
    for name, z in (("original", original), ("aligned", aligned)):
        if z.ndim != 2 or not jnp.issubdtype(z.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating point of shape [n, d], got {z.dtype} of shape {z.shape}")
    if len(original) != len(aligned):
        raise ValueError(f"original and aligned must have the same rows, got {len(original)} and {len(aligned)}")
    check_where(where, len(original))
    check_number("temperature", temperature, lambda t: t > 0, "positive")
    where = jnp.ones(len(original), bool) if where is None else jnp.asarray(where)
    original, aligned, where = vary_together((original, aligned, where), axis_name)
    counts = where if axis_name is None else jax.lax.all_gather(where, axis_name, tiled=True)
    log_p, log_q = (_log_neighbours(z, temperature, where, counts, axis_name) for z in (original, aligned))
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
    terms = jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
    return jnp.where(where, 0.5 * jnp.sum(terms, axis=1), 0.0)


def _log_neighbours(z: jax.Array, temperature: Array | float, where: jax.Array, counts: jax.Array, axis_name):
    """[n, N] logarithms of the softmax over the samples of the whole batch; `counts` [N] is its mask."""
    unit = l2_normalize(jnp.where(where[:, None], z, 0))
    mean = masked_sum(unit, where, axis_name=axis_name) / jnp.maximum(masked_count(unit, where, axis_name=axis_name), 1)
    centred = jnp.where(where[:, None], unit - mean, 0.0)
    others = centred if axis_name is None else jax.lax.all_gather(centred, axis_name, tiled=True)
    logits = matmul(centred, others) / temperature
    return jax.nn.log_softmax(jnp.where(counts[None, :], logits, MASKED), axis=1)
