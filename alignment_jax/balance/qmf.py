"""QMF: decisions of the modalities weighted by their confidence, which is trained to follow the loss history."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import BalanceMethod, BalanceTerms, ForwardPass
from alignment_jax.core import Array, PyTree
from alignment_jax.core.checks import check_number
from alignment_jax.core.gather import all_rows

_SCALE = 0.1  # of the negative energy


def confidence(logits: Array) -> jax.Array:
    """Confidence of a prediction [n]: a tenth of its negative energy, log sum_k exp(logits_k).

    Args:
      logits: [n, c].

    >>> confidence(jnp.array([[0.0, 0.0], [5.0, 0.0]])).round(3).tolist()
    [0.069..., 0.501...]

    Source: QMF (Zhang et al., ICML 2023), equation 9, with the factor of the authors' code.
    """
    return _SCALE * jax.nn.logsumexp(jnp.asarray(logits, jnp.float32), axis=-1)


def confidence_fusion(logits: Mapping[str, Array], *, present: Mapping[str, Array] | None = None) -> jax.Array:
    """Fused logits [n, c]: sum_m w_m logits_m, w_m = `confidence` without a gradient.

    Args:
      logits: modality -> [n, c].
      present: modality -> bool [n], samples that have it; a missing one has weight 0. None or no entry for all.

    >>> logits = {"a": jnp.array([[4.0, 0.0]]), "b": jnp.array([[0.0, 1.0]])}
    >>> confidence_fusion(logits).round(3).tolist()
    [[1.607..., 0.131...]]

    Source: QMF (Zhang et al., ICML 2023), equation 3.
    """
    total = jnp.float32(0.0)
    for m, own in logits.items():
        weight = jax.lax.stop_gradient(confidence(own))
        if present is not None and m in present:
            weight = jnp.where(present[m], weight, 0.0)
        total = total + weight[:, None] * jnp.asarray(own, jnp.float32)
    return total


def rank_loss(scores: Array, history: Array, *, where: Array | None = None) -> jax.Array:
    """Confidences must be ordered against the past losses: mean over neighbouring rows (i, j = i + 1) of

    max(0, sign(k_i - k_j) (w_i - w_j) + |k_i - k_j|)

    Args:
      scores: [n] confidences w.
      history: [n] mean losses k of the same samples so far, in [0, 1]; constants.
      where: [n] bool, rows that count; a pair counts where both do. None for all.

    Returns:
      float32 scalar; 0 without a pair. The last row is paired with the first.

    >>> float(rank_loss(jnp.array([0.9, 0.1]), jnp.array([0.0, 1.0])))  # in order, but closer than the losses
    0.2...

    Source: QMF (Zhang et al., ICML 2023), equation 11.
    """
    scores, history = jnp.asarray(scores, jnp.float32), jax.lax.stop_gradient(jnp.asarray(history, jnp.float32))
    difference = history - jnp.roll(history, -1)
    loss = jnp.maximum(0.0, jnp.sign(difference) * (scores - jnp.roll(scores, -1)) + jnp.abs(difference))
    if where is None:
        return jnp.mean(loss)
    pair = jnp.asarray(where) & jnp.roll(jnp.asarray(where), -1)
    return jnp.sum(jnp.where(pair, loss, 0.0)) / jnp.maximum(jnp.sum(pair.astype(jnp.float32)), 1.0)


def qmf(modalities: tuple[str, ...], *, size: int, rank_weight: float = 1.0) -> BalanceMethod:
    """QMF as a `BalanceMethod`: `rank_loss` of every modality; the fused head must be `confidence_fusion`.

    State: the sum of the losses of every training sample in each modality, and their number. k is their mean, mapped to
    [0, 1] over the samples seen so far, as in the authors' code.

    Args:
      modalities: names.
      size: samples in the training set.
      rank_weight: of the rank losses, at least 0.

    >>> qmf(("a", "b"), size=5).init()["sum"]["b"].shape
    (5,)
    """
    check_number("rank_weight", rank_weight, lambda x: x >= 0, "at least 0")

    def init() -> PyTree:
        return {name: {m: jnp.zeros(size, jnp.float32) for m in modalities} for name in ("sum", "count")}

    def terms(forward: ForwardPass, state: PyTree, axis_name: str | None) -> BalanceTerms:
        after: dict[str, dict[str, jax.Array]] = {"sum": {}, "count": {}}
        index = all_rows(forward.index, axis_name)
        total, metrics = jnp.float32(0.0), {}
        for m in modalities:
            rows = all_rows(forward.present[m], axis_name)
            losses = jax.lax.stop_gradient(jnp.where(forward.present[m], forward.losses[m], 0.0))
            at = jnp.where(rows, index, size)  # out of bounds and dropped
            sums = state["sum"][m].at[at].add(all_rows(losses, axis_name), mode="drop")
            count = state["count"][m].at[at].add(1.0, mode="drop")
            after["sum"][m], after["count"][m] = sums, count
            mean = sums / jnp.maximum(count, 1.0)
            low = jnp.min(jnp.where(count > 0, mean, jnp.inf))
            high = jnp.max(jnp.where(count > 0, mean, -jnp.inf))
            spread = jnp.where(high > low, high - low, 1.0)
            history = jnp.where(rows, (mean[jnp.where(rows, index, 0)] - low) / spread, 0.0)
            scores = jnp.where(forward.present[m], confidence(forward.logits[m]), 0.0)
            found = rank_loss(all_rows(scores, axis_name), history, where=rows)
            total, metrics[f"rank_loss_{m}"] = total + found, found
        return BalanceTerms(after, loss=rank_weight * total, metrics=metrics)

    return BalanceMethod(init=init, terms=terms)
