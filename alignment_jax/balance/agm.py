"""AGM: gradients of each encoder follow how far its modality's contribution is from its usual share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import FUSED, BalanceMethod, BalanceTerms, ForwardPass, Subsets, scaled_gradients
from alignment_jax.core import Array, PyTree, masked_count, masked_mean
from alignment_jax.core.checks import check_number

_LARGEST = 10.0  # of the exponent's argument before alpha
_SMALLEST = 1e-8  # probability


def modality_contributions(
    values: Subsets, modalities: tuple[str, ...], *, present: Mapping[str, Array] | None = None
) -> dict[str, jax.Array]:
    """Shapley values of the modalities for the fused logits; their sum is the logits of all modalities.

    phi_m = sum over S without m of |S|! (K - |S| - 1)! / K! (v(S + m) - v(S)),  v({}) = 0

    Args:
      values: set of modalities, in the order of `modalities`, -> v(S) [n, c]: fused logits from these modalities, the
        features of the others zero. Every set but the empty one.
      modalities: the K names.
      present: modality -> bool [n], samples that have it; a missing one contributes 0. None or no entry for all.

    Returns:
      modality -> [n, c].

    >>> values = {("a",): jnp.array([[1.0]]), ("b",): jnp.array([[3.0]]), ("a", "b"): jnp.array([[6.0]])}
    >>> {m: phi.tolist() for m, phi in modality_contributions(values, ("a", "b")).items()}
    {'a': [[2.0]], 'b': [[4.0]]}

    Source: AGM (Li et al., ICCV 2023), equations 2 to 4.
    """
    size = len(modalities)
    has = {m: None if present is None else present.get(m) for m in modalities}

    def value(names: tuple[str, ...]) -> jax.Array:
        v = jnp.asarray(values[names], jnp.float32)
        masks = [mask for m in names if (mask := has[m]) is not None]
        if len(masks) < len(names):
            return v
        # Without any of these modalities the sample's set is the empty one.
        return jnp.where(jnp.any(jnp.stack(masks), axis=0)[:, None], v, 0.0)

    found = {}
    for m in modalities:
        total: jax.Array = jnp.zeros_like(value(modalities))
        others = [o for o in modalities if o != m]
        for count in range(size):
            weight = math.factorial(count) * math.factorial(size - count - 1) / math.factorial(size)
            for chosen in itertools.combinations(others, count):
                both = tuple(o for o in modalities if o == m or o in chosen)
                total += weight * (value(both) - value(chosen) if chosen else value(both))
        found[m] = total
    return found


def agm_coefficients(
    scores: Mapping[str, Array], averages: Mapping[str, Array], *, alpha: float
) -> dict[str, jax.Array]:
    """kappa_m = exp(alpha min(tau_m - r_m, 10)), r_m = exp(mean over the others of s_o - s_m), tau_m the same of the
    running averages.

    A modality whose cross-entropy s_m is lower than usual, in comparison, gets a factor below 1.

    Args:
      scores: modality -> scalar, cross-entropy of its contribution in this step.
      averages: modality -> scalar, the mean of its scores over the steps before.
      alpha: strength, at least 0; 0 changes nothing.

    Returns:
      modality -> factor of its encoder's gradients.

    >>> now, usual = {"a": jnp.float32(0.5), "b": jnp.float32(1.0)}, {"a": jnp.float32(1.0), "b": jnp.float32(1.0)}
    >>> {m: round(float(k), 3) for m, k in agm_coefficients(now, usual, alpha=1.0).items()}
    {'a': 0.523, 'b': 1.482}

    Source: AGM (Li et al., ICCV 2023), equations 5 to 8; the bound 10 and averages of the steps before are the authors'
    code.
    """
    check_number("alpha", alpha, lambda x: x >= 0, "at least 0")

    def ratio(values: Mapping[str, Array], m: str) -> jax.Array:
        others = [values[o] for o in values if o != m]
        return jnp.exp(sum(others[1:], start=others[0]) / len(others) - values[m])

    return {m: jnp.exp(alpha * jnp.minimum(ratio(averages, m) - ratio(scores, m), _LARGEST)) for m in scores}


def agm(modalities: tuple[str, ...], *, alpha: float = 1.0) -> BalanceMethod:
    """AGM as a `BalanceMethod`: `agm_coefficients` times the gradients of the encoders.

    State: the mean score of each modality over all steps. The fusion is computed again for every smaller set of
    modalities, the encoders are not: a muted modality has zero features, where the paper mutes its input.

    Args:
      modalities: two or more names.
      alpha: strength, at least 0.

    >>> {m: float(s) for m, s in agm(("a", "b")).init()["mean"].items()}
    {'a': 0.0, 'b': 0.0}
    """
    check_number("alpha", alpha, lambda x: x >= 0, "at least 0")

    def init() -> PyTree:
        return {
            "mean": {m: jnp.zeros((), jnp.float32) for m in modalities},
            "count": {m: jnp.zeros((), jnp.float32) for m in modalities},
        }

    def terms(forward: ForwardPass, state: PyTree, axis_name: str | None) -> BalanceTerms:
        values = jax.lax.stop_gradient({**forward.subsets, modalities: forward.logits[FUSED]})
        phi = modality_contributions(values, modalities, present=forward.present)
        mean, count, scores = {}, {}, {}
        for m in modalities:
            log_p = jax.nn.log_softmax(phi[m], axis=-1)
            own = -jnp.take_along_axis(log_p, forward.label[:, None], axis=-1)[:, 0]
            own = jnp.minimum(own, -math.log(_SMALLEST))
            seen = masked_count(own, forward.present[m], axis_name=axis_name) > 0
            score = masked_mean(own, forward.present[m], axis_name=axis_name)
            old = state["mean"][m]
            scores[m] = jnp.where(seen, score, old)  # a batch without this modality is as usual
            count[m] = state["count"][m] + seen
            mean[m] = old + jnp.where(seen, (score - old) / jnp.maximum(count[m], 1.0), 0.0)
        factors = agm_coefficients(scores, state["mean"], alpha=alpha)
        metrics = {f"modulation_{m}": k for m, k in factors.items()}
        metrics |= {f"contribution_loss_{m}": s for m, s in scores.items()}
        return BalanceTerms({"mean": mean, "count": count}, modulation=factors, metrics=metrics)

    return BalanceMethod(init=init, subsets=True, terms=terms, gradients=scaled_gradients)
