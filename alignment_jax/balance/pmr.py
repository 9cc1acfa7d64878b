"""PMR: class prototypes of each modality; a slow modality is drawn to its own, a dominant one is kept uncertain."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import BalanceMethod, BalanceTerms, ForwardPass, ratios_to_others
from alignment_jax.core import Array, PyTree, masked_count, masked_mean, psum_if
from alignment_jax.core.checks import check_number

_UNSEEN = -1e9  # logit of a class without a prototype


def update_prototypes(
    prototypes: Array,
    seen: Array,
    features: Array,
    label: Array,
    *,
    decay: float,
    where: Array | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Running means of the features of every class: c_k <- decay c_k + (1 - decay) mean of the batch's class k.

    Args:
      prototypes: [c, width].
      seen: bool [c], classes that have one; the first mean of a class is taken as it is.
      features: [n, width].
      label: [n] integers in [0, c).
      decay: in [0, 1).
      where: [n] bool, rows that count; None for all.
      axis_name: mesh axis over which the rows are sharded; the means are then those of the whole batch.

    Returns:
      (prototypes, seen), without gradients.

    >>> c, seen = jnp.zeros((2, 1)), jnp.zeros(2, bool)
    >>> c, seen = update_prototypes(c, seen, jnp.array([[1.0], [3.0]]), jnp.array([1, 1]), decay=0.5)
    >>> c.tolist(), seen.tolist()
    ([[0.0], [2.0]], [False, True])

    Source: PMR (Fan et al., CVPR 2023), equation 4 and its momentum. The paper computes the means once per epoch from a
    part of train; here every step updates them, without another pass.
    """
    check_number("decay", decay, lambda x: 0 <= x < 1, "in [0, 1)")
    features = jax.lax.stop_gradient(jnp.asarray(features, jnp.float32))
    member = jax.nn.one_hot(label, prototypes.shape[0], dtype=jnp.float32)
    if where is not None:
        rows = jnp.asarray(where)[:, None]
        member, features = jnp.where(rows, member, 0.0), jnp.where(rows, features, 0.0)
    count = psum_if(jnp.sum(member, axis=0), axis_name)
    sums = psum_if(jnp.matmul(member.T, features, precision="highest"), axis_name)
    mean = sums / jnp.maximum(count, 1.0)[:, None]
    keep = jnp.where(seen, decay, 0.0)[:, None]
    return jnp.where(count[:, None] > 0, keep * prototypes + (1.0 - keep) * mean, prototypes), jnp.asarray(seen) | (
        count > 0
    )


def prototype_loss(
    features: Mapping[str, Array],
    label: Array,
    *,
    prototypes: Mapping[str, Array],
    seen: Mapping[str, Array],
    alpha: float,
    entropy_weight: Array | float,
    present: Mapping[str, Array] | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The terms of the loss from distances to prototypes, and the imbalance ratios.

    p_m = softmax over classes of -|z_m - c_mk|;  rho_m = mean p_m[label] / mean of the others' mean p[label]
    loss = alpha sum_m clip(1 / rho_m - 1, 0, 1) CE(p_m) - entropy_weight sum_m clip(rho_m - 1, 0, 1) H(p_m)

    CE and H are means over samples. A balanced pair of modalities (rho = 1) gives 0.

    Args:
      features: modality -> [n, width].
      label: [n] integers in [0, c).
      prototypes: modality -> [c, width].
      seen: modality -> bool [c], classes with a prototype; others are no class of the softmax, and their samples do not
        count.
      alpha: weight of the cross-entropies of slow modalities, at least 0.
      entropy_weight: of the entropies of dominant modalities, at least 0; the paper turns it off after some epochs.
      present: modality -> bool [n], rows that count for it; None or no entry for all.
      axis_name: mesh axis over which the rows are sharded; the loss is then that of the whole batch.

    Returns:
      (loss, modality -> rho_m); no gradient passes through rho and prototypes.

    >>> features = {"a": jnp.array([[0.0]]), "b": jnp.array([[1.0]])}
    >>> common = dict(
    ...     prototypes=dict.fromkeys("ab", jnp.array([[0.0], [2.0]])), seen=dict.fromkeys("ab", jnp.ones(2, bool))
    ... )
    >>> loss, ratios = prototype_loss(features, jnp.array([0]), alpha=1.0, entropy_weight=0.0, **common)
    >>> round(float(loss), 3), round(float(ratios["b"]), 3)  # b lies between both prototypes
    (0.528, 0.568)

    Source: PMR (Fan et al., CVPR 2023), equations 5 to 11, for two modalities; with three we compare with the mean of
    the others.
    """
    check_number("alpha", alpha, lambda x: x >= 0, "at least 0")
    check_number("entropy_weight", entropy_weight, lambda x: x >= 0, "at least 0")
    cross_entropy, entropy, score, count = {}, {}, {}, {}
    for m, z in features.items():
        c = jax.lax.stop_gradient(jnp.asarray(prototypes[m], jnp.float32))
        log_p = jax.nn.log_softmax(jnp.where(seen[m], -_distances(z, c), _UNSEEN), axis=-1)
        rows = jnp.asarray(seen[m])[label]
        if present is not None and m in present:
            rows &= present[m]
        own = jnp.take_along_axis(log_p, jnp.asarray(label)[:, None], axis=-1)[:, 0]
        spread = -jnp.sum(jnp.where(seen[m], jnp.exp(log_p) * log_p, 0.0), axis=-1)
        cross_entropy[m] = masked_mean(-own, rows, axis_name=axis_name)
        entropy[m] = masked_mean(spread, rows, axis_name=axis_name)
        score[m] = masked_mean(jax.lax.stop_gradient(jnp.exp(own)), rows, axis_name=axis_name)
        count[m] = masked_count(own, rows, axis_name=axis_name)
    ratios = ratios_to_others(score, count)
    loss = jnp.float32(0.0)
    for m, rho in ratios.items():
        slow = jnp.clip(1.0 / jnp.maximum(rho, 1e-6) - 1.0, 0.0, 1.0)
        dominant = jnp.clip(rho - 1.0, 0.0, 1.0)
        loss += alpha * slow * cross_entropy[m] - entropy_weight * dominant * entropy[m]
    return loss, ratios


def _distances(z: Array, c: Array) -> jax.Array:
    """Euclidean distances [n, c]; the derivative at distance 0 is 0."""
    # Both from the mean of the prototypes: |z|^2 + |c|^2 - 2 z.c of vectors far from 0 would lose its digits.
    centre = jnp.mean(c, axis=0)
    z, c = jnp.asarray(z, jnp.float32) - centre, c - centre
    products = jnp.matmul(z, c.T, precision="highest")
    square = jnp.sum(z**2, axis=-1)[:, None] + jnp.sum(c**2, axis=-1)[None, :] - 2.0 * products
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def pmr(
    widths: Mapping[str, int],
    *,
    classes: int,
    alpha: float = 1.0,
    decay: float = 0.9,
    entropy_weight: float = 0.01,
    entropy_steps: int = 0,
) -> BalanceMethod:
    """PMR as a `BalanceMethod`: `prototype_loss` with the prototypes of the steps before.

    State: prototypes of each modality, and the classes that have one.

    Args:
      widths: modality -> width of its features.
      classes: number of classes.
      alpha, decay, entropy_weight: see `prototype_loss` and `update_prototypes`.
      entropy_steps: the entropies count in the first steps only.

    >>> pmr({"a": 4, "b": 2}, classes=3).init()["prototypes"]["b"].shape
    (3, 2)
    """
    check_number("alpha", alpha, lambda x: x >= 0, "at least 0")
    check_number("entropy_weight", entropy_weight, lambda x: x >= 0, "at least 0")
    check_number("decay", decay, lambda x: 0 <= x < 1, "in [0, 1)")

    def init() -> PyTree:
        return {
            "prototypes": {m: jnp.zeros((classes, width), jnp.float32) for m, width in widths.items()},
            "seen": {m: jnp.zeros(classes, bool) for m in widths},
        }

    def terms(forward: ForwardPass, state: PyTree, axis_name: str | None) -> BalanceTerms:
        features = {m: forward.features[m] for m in widths}
        loss, ratios = prototype_loss(
            features,
            forward.label,
            prototypes=state["prototypes"],
            seen=state["seen"],
            alpha=alpha,
            entropy_weight=jnp.where(forward.step < entropy_steps, entropy_weight, 0.0),
            present=forward.present,
            axis_name=axis_name,
        )
        after: dict[str, dict[str, jax.Array]] = {"prototypes": {}, "seen": {}}
        for m, z in features.items():
            after["prototypes"][m], after["seen"][m] = update_prototypes(
                state["prototypes"][m],
                state["seen"][m],
                z,
                forward.label,
                decay=decay,
                where=forward.present[m],
                axis_name=axis_name,
            )
        metrics = {"prototype_loss": loss, **{f"ratio_{m}": rho for m, rho in ratios.items()}}
        return BalanceTerms(after, loss=loss, metrics=metrics)

    return BalanceMethod(init=init, terms=terms)
