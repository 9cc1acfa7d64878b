"""A bias a candidate as one more dimension of its embedding, for any inner-product index."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array


def fold_bias(candidates: Array, bias: Array) -> jax.Array:
    """Appends -bias to each candidate: [z, -bias].

    The inner product with `with_one(query)` is the corrected score, `query · z - bias`. Build an inner-product index
    on the result; the vectors have no unit length, so a cosine index gives another ranking.

    Args:
      candidates: [N, d] embeddings.
      bias: [N], from `nnn_bias`, `csls_bias` or `inverted_softmax_bias`.

    Returns:
      float32 [N, d + 1].

    Raises:
      ValueError: a shape does not fit.

    >>> fold_bias(jnp.array([[0.6, 0.8]]), jnp.array([0.25])).tolist()
    [[0.60..., 0.80..., -0.25]]
    """
    candidates, bias = _matrix("candidates", candidates), jnp.asarray(bias, jnp.float32)
    if bias.shape != candidates.shape[:1]:
        raise ValueError(f"bias must have shape [{candidates.shape[0]}], one number a candidate, got {bias.shape}")
    return jnp.concatenate([candidates, -bias[:, None]], axis=1)


def with_one(queries: Array) -> jax.Array:
    """Appends 1 to each query, for candidates from `fold_bias`.

    Args:
      queries: [n, d] embeddings.

    Returns:
      float32 [n, d + 1].

    Raises:
      ValueError: `queries` is no matrix.

    >>> with_one(jnp.array([[0.0, 1.0]])).tolist()
    [[0.0, 1.0, 1.0]]
    """
    queries = _matrix("queries", queries)
    return jnp.concatenate([queries, jnp.ones_like(queries[:, :1])], axis=1)


def _matrix(name: str, z: Array) -> jax.Array:
    if jnp.ndim(z) != 2:
        raise ValueError(f"{name} must have shape [n, d], got {jnp.shape(z)}")
    return jnp.asarray(z, jnp.float32)
