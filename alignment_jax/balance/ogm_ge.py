"""OGM-GE: gradients of the encoder of a dominant modality are made smaller, and noise is added to all."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import (
    FUSED,
    BalanceMethod,
    BalanceTerms,
    ForwardPass,
    mask_of,
    ratios_to_others,
    scaled_gradients,
    true_class_probability,
)
from alignment_jax.core import Array, PyTree, masked_count, masked_mean
from alignment_jax.core.checks import check_number
from alignment_jax.core.random_numbers import normal


def discrepancy_ratios(
    logits: Mapping[str, Array],
    label: Array,
    *,
    present: Mapping[str, Array] | None = None,
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """rho_m = s_m / mean of s of the other modalities, s_m = mean over samples of softmax(logits_m)[label].

    Above 1 the modality does better than the others.

    Args:
      logits: modality -> [n, c].
      label: [n] integers in [0, c).
      present: modality -> bool [n], rows that count for it; None or no entry for all.
      axis_name: mesh axis over which the rows are sharded; the ratios are then those of the whole batch.

    Returns:
      modality -> float32 scalar without a gradient; 1 where a modality has no row.

    >>> logits = {"a": jnp.array([[2.0, 0.0]]), "b": jnp.array([[0.0, 0.0]])}
    >>> {m: round(float(r), 3) for m, r in discrepancy_ratios(logits, jnp.array([0])).items()}
    {'a': 1.762, 'b': 0.568}

    Source: OGM-GE (Peng et al., CVPR 2022), equations 7 and 8, for two modalities. With three we compare with the mean
    of the others. The paper divides the fused layer among modalities; here each has a head. Means in place of its sums
    are the same unless samples lack a modality.
    """
    scores, counts = {}, {}
    for m, own in logits.items():
        score = jax.lax.stop_gradient(true_class_probability(own, label))
        scores[m] = masked_mean(score, mask_of(present, m), axis_name=axis_name)
        counts[m] = masked_count(score, mask_of(present, m), axis_name=axis_name)
    return ratios_to_others(scores, counts)


def ogm_coefficients(ratios: Mapping[str, Array], *, alpha: float) -> dict[str, jax.Array]:
    """k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1.

    Args:
      ratios: modality -> scalar, from `discrepancy_ratios`.
      alpha: strength, at least 0; 0 changes nothing.

    Returns:
      modality -> factor in [0, 1] of its encoder's gradients.

    >>> found = ogm_coefficients({"a": jnp.float32(2.0), "b": jnp.float32(0.5)}, alpha=0.5)
    >>> {m: round(float(k), 3) for m, k in found.items()}
    {'a': 0.238, 'b': 1.0}

    Source: OGM-GE (Peng et al., CVPR 2022), equation 10.
    """
    check_number("alpha", alpha, lambda x: x >= 0, "at least 0")
    return {m: jnp.where(rho > 1.0, 1.0 - jnp.tanh(alpha * rho), 1.0) for m, rho in ratios.items()}


def add_gradient_noise(key: jax.Array, gradients: PyTree, *, like: PyTree) -> PyTree:
    """Adds Gaussian noise to each array: mean 0, standard deviation that of the entries of the same array in `like`.

    Args:
      key: a random key; the same on every device.
      gradients, like: trees of arrays of the same shapes.

    >>> noisy = add_gradient_noise(jax.random.key(0), [jnp.zeros(3)], like=[jnp.ones(3)])
    >>> noisy[0].tolist()  # equal entries have no spread
    [0.0, 0.0, 0.0]

    Source: OGM-GE (Peng et al., CVPR 2022), generalization enhancement: noise of the gradient's own variance. The
    authors' code adds it to convolutions alone; here every array of the encoder gets it.
    """
    leaves, structure = jax.tree.flatten(gradients)
    noisy = [
        g + (jnp.std(own) * normal(jax.random.fold_in(key, k), g.shape)).astype(g.dtype)
        for k, (g, own) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True))
    ]
    return jax.tree.unflatten(structure, noisy)


def ogm_ge(*, alpha: float = 0.8, noise: bool = True) -> BalanceMethod:
    """OGM-GE as a `BalanceMethod`: `ogm_coefficients` times the gradients of the encoders, plus noise.

    An optimizer that divides by the gradients' own size, such as Adam, takes a constant factor back; the paper trains
    with SGD.

    Args:
      alpha: strength, at least 0; the paper takes 0.1 to 1.
      noise: add the noise of `add_gradient_noise` (GE).

    >>> ogm_ge(alpha=0.5).separate
    False
    """
    check_number("alpha", alpha, lambda x: x >= 0, "at least 0")

    def terms(forward: ForwardPass, state: PyTree, axis_name: str | None) -> BalanceTerms:
        logits = {m: x for m, x in forward.logits.items() if m != FUSED}
        ratios = discrepancy_ratios(logits, forward.label, present=forward.present, axis_name=axis_name)
        factors = ogm_coefficients(ratios, alpha=alpha)
        metrics = {f"ratio_{m}": rho for m, rho in ratios.items()}
        metrics |= {f"modulation_{m}": k for m, k in factors.items()}
        return BalanceTerms(state, modulation=factors, metrics=metrics)

    def gradients(own, modulation, key):
        scaled, metrics = scaled_gradients(own, modulation, key)
        if noise:
            for k, m in enumerate(sorted(scaled)):
                scaled[m] = add_gradient_noise(jax.random.fold_in(key, k), scaled[m], like=own[0][m])
        return scaled, metrics

    return BalanceMethod(terms=terms, gradients=gradients)
