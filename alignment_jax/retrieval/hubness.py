"""How much of a hub each candidate is: in how many queries' nearest neighbours it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.types import Array
from alignment_jax.metrics.top_k import top_k
from alignment_jax.retrieval.fold import fold_bias, with_one


def k_occurrence(queries: Array, candidates: Array, *, k: int = 10, bias: Array | None = None) -> jax.Array:
    """Of each candidate, the number of queries that have it among their k most similar candidates.

    Args:
      queries: [n, d] embeddings.
      candidates: [m, d] embeddings.
      k: neighbours of a query; all candidates where there are fewer.
      bias: [m], subtracted from a candidate's similarities, or None.

    Returns:
      int32 [m]; its sum is n · min(k, m).

    Raises:
      ValueError: a shape does not fit or k is below 1.

    >>> k_occurrence(jnp.eye(3), jnp.array([[1.0, 1.0, 1.0], [0.5, 0.0, 0.0]]), k=1).tolist()
    [3, 0]

    Source: Radovanović et al. 2010, "Hubs in Space", section 2.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if bias is not None:
        queries, candidates = with_one(queries), fold_bias(candidates, bias)
    m = jnp.shape(candidates)[0]
    _, index = top_k(queries, candidates, min(k, m))
    return jnp.zeros(m, jnp.int32).at[index.reshape(-1)].add(1)


def skewness(counts: Array) -> jax.Array:
    """Third standardised moment of `k_occurrence`: near 0 without hubs, large where a few candidates take most queries.

    Args:
      counts: [m].

    Returns:
      A float32 scalar; 0 where all counts are equal.

    >>> float(skewness(jnp.array([3, 0, 0, 0])))
    1.15...

    Source: Radovanović et al. 2010, equation 1.
    """
    x = jnp.asarray(counts, jnp.float32)
    centred = x - jnp.mean(x)
    variance = jnp.mean(jnp.square(centred))
    return jnp.where(variance > 0, jnp.mean(centred**3) / jnp.where(variance > 0, variance, 1.0) ** 1.5, 0.0)
