"""CSA's similarity: a cosine whose dimensions are weighted after the normalization."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, l2_normalize


def weighted_unit_vectors(z: Array, weights: Array, *, side: str) -> jax.Array:
    """Unit vectors whose inner products between the sides are weighted cosines.

    With x = z / |z| of side a and y of side b: result_a · result_b = Σ_k w_k x_k y_k / max w

    Weighted vectors differ in length, and indexes, cosines and means over views need unit vectors. The missing length
    is therefore put into one further dimension of each side, where the other side is 0; the division by the largest
    weight changes no ranking.

    Args:
      z: [..., d] projected latents, in the order of their canonical correlations and cut to the first d.
      weights: [d] non-negative, not all 0: powers ρ^s of the canonical correlations. No gradient passes through them.
      side: "a" or "b".

    Returns:
      [..., d + 2] float32 of length one.

    Raises:
      ValueError: weights of another shape, or another side.

    >>> x, y, w = jnp.array([3.0, 4.0]), jnp.array([1.0, 0.0]), jnp.array([0.5, 0.25])
    >>> a, b = weighted_unit_vectors(x, w, side="a"), weighted_unit_vectors(y, w, side="b")
    >>> round(float(a @ b), 6), round(float(a @ a), 6)  # 0.5 · 0.6 · 1 / 0.5
    (0.6, 1.0)

    Source: Li, Chinchali and Topcu, CSA: data-efficient mapping of unimodal features to multimodal features (ICLR 2025,
    arXiv 2410.07610), with s = 1. `fit_cca(power=p)` weights by ρ^p before the normalization instead. Deviation: the
    two further dimensions, so that the similarity is an ordinary cosine.
    """
    if side not in ("a", "b"):
        raise ValueError(f"side must be 'a' or 'b', got {side!r}")
    z, weights = jnp.asarray(z), jax.lax.stop_gradient(jnp.asarray(weights, jnp.float32))
    if weights.shape != z.shape[-1:]:
        raise ValueError(f"weights must have shape {list(z.shape[-1:])}, got {list(weights.shape)}")
    weighted = l2_normalize(z) * jnp.sqrt(weights / jnp.max(weights))
    # Above 0, where the gradient of the root is infinite.
    missing = jnp.sqrt(jnp.maximum(1.0 - jnp.sum(jnp.square(weighted), axis=-1, keepdims=True), 1e-12))
    nothing = jnp.zeros_like(missing)
    own, other = (missing, nothing) if side == "a" else (nothing, missing)
    return jnp.concatenate([weighted, own, other], axis=-1)
