"""How near each candidate is to a bank of training queries, in the three ways of the literature."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_number
from alignment_jax.core.types import Array
from alignment_jax.retrieval.bank_sweep import sweep_bank


def nnn_bias(
    candidates: Array,
    bank: Array,
    *,
    k: int = 16,
    strength: Array | float = 0.5,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Nearest-neighbour normalisation: strength times the mean of a candidate's k largest similarities to the bank.

    With S = queries candidatesᵀ, rank by S_qc - bias_c.

    Args:
      candidates: [N, d] embeddings, used as they come; normalise first.
      bank: [M, d] embeddings of training items of the other side, the queries.
      k: how many of the nearest queries count; all of them where the bank has fewer.
      strength: α, scalar, may be traced.
      where: bool [M], the rows of the bank that count, or None for all. Under `jit` a mask without any gives 0.
      axis_name: mesh axis that candidates and bank are sharded over, or None.

    Returns:
      float32 [N].

    Raises:
      ValueError: a shape does not fit, k is below 1 or the bank is empty.

    >>> candidates = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> bank = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> nnn_bias(candidates, bank, k=2, strength=1.0).tolist()
    [0.89..., 0.70...]

    Source: Chowdhury et al. 2024, "Nearest Neighbor Normalization Improves Multimodal Retrieval" (arXiv 2410.24114),
    section 3.
    """
    return jnp.asarray(strength) * _mean_of_largest(candidates, bank, k, where, axis_name)


def csls_bias(
    candidates: Array, bank: Array, *, k: int = 10, where: Array | None = None, axis_name: str | None = None
) -> jax.Array:
    """Cross-domain similarity local scaling: half the mean of a candidate's k largest similarities to the bank.

    CSLS is 2 S_qc - r_q - r_c. The query's own term r_q changes no ranking of candidates, and half of the rest is
    S_qc - r_c / 2.

    Args:
      candidates, bank, k, where, axis_name: as for `nnn_bias`.

    Returns:
      float32 [N].

    Raises:
      ValueError: as `nnn_bias`.

    >>> csls_bias(jnp.eye(2), jnp.array([[1.0, 0.0], [0.8, 0.6]]), k=1).tolist()
    [0.5, 0.30...]

    Source: Conneau et al. 2018, "Word Translation Without Parallel Data" (arXiv 1710.04087), equation 4.
    """
    return 0.5 * _mean_of_largest(candidates, bank, k, where, axis_name)


def inverted_softmax_bias(
    candidates: Array,
    bank: Array,
    *,
    temperature: Array | float = 0.1,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Inverted softmax: τ log of the mean over the bank of exp(similarity / τ).

    The softmax of a candidate over the queries divides exp(S_qc / τ) by that sum; its logarithm, times τ, is
    S_qc - bias_c and a constant.

    Args:
      candidates, bank, where, axis_name: as for `nnn_bias`.
      temperature: τ, a positive scalar, may be traced.

    Returns:
      float32 [N].

    Raises:
      ValueError: a shape does not fit, the temperature is not positive or the bank is empty.

    >>> inverted_softmax_bias(jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 0.0]]), temperature=0.5).tolist()
    [1.0, 0.0]

    Source: Smith et al. 2017 (arXiv 1702.03859), section 2.3; with a bank of training queries, Bogolin et al. 2022
    (arXiv 2112.12777). Bogolin's dynamic variant, which corrects some candidates only, is not included.
    """
    check_number("temperature", temperature, lambda t: t > 0, "positive")

    def initial(rows: int) -> tuple[jax.Array, jax.Array]:
        return jnp.full((rows,), -jnp.inf), jnp.zeros((rows,))

    def update(state, similarities, counts):
        largest, total = state
        s = jnp.where(counts, similarities, -jnp.inf)
        top = jnp.maximum(largest, jnp.max(s, axis=1))
        base = jnp.where(jnp.isfinite(top), top, 0.0)  # no query so far: -inf - -inf would be NaN
        # Differences first: they are exact for close similarities, quotients by a small temperature are not.
        total = total * jnp.exp((largest - base) / temperature)
        return top, total + jnp.sum(jnp.exp((s - base[:, None]) / temperature), axis=1)

    (largest, total), count = sweep_bank(candidates, bank, where, axis_name, initial, update)
    mean = total / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, largest + temperature * jnp.log(jnp.where(count > 0, mean, 1.0)), 0.0)


def _mean_of_largest(candidates: Array, bank: Array, k: int, where: Array | None, axis_name: str | None) -> jax.Array:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")

    def initial(rows: int) -> jax.Array:
        return jnp.full((rows, k), -jnp.inf)

    def update(state, similarities, counts):
        s = jnp.where(counts, similarities, -jnp.inf)
        # The largest of a tile first: that is the only sort of a whole tile.
        s = jax.lax.top_k(s, min(k, s.shape[1]))[0]
        return jax.lax.top_k(jnp.concatenate([state, s], axis=1), k)[0]

    largest, count = sweep_bank(candidates, bank, where, axis_name, initial, update)
    return jnp.sum(jnp.where(jnp.arange(k) < count, largest, 0.0), axis=1) / jnp.maximum(jnp.minimum(count, k), 1.0)
