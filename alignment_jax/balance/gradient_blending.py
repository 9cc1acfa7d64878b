"""Gradient-Blending: weights of the heads from how much they generalize and how much they overfit."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import FUSED, BalanceMethod, BalanceTerms, ForwardPass
from alignment_jax.core import Array, PyTree, masked_count, masked_sum
from alignment_jax.core.checks import check_number
from alignment_jax.core.random_numbers import uniform

_SMALLEST_OVERFITTING = 1e-2


def blending_weights(train: Array, held_out: Array) -> jax.Array:
    """w_k = (G_k / O_k^2) / sum of the same, from the loss curves of the heads.

    G_k = V_k,first - V_k,last;  O_k = (V_k,last - T_k,last) - (V_k,first - T_k,first)

    with V the loss on held-out samples and T that on training samples. A head that did not generalize (G_k <= 0) gets
    0; where none did, all get the same weight. An overfitting below 0.01 counts as 0.01: the quotient has no bound.

    Args:
      train: [points, k] losses T of the heads, in the order of time; the first and the last point count.
      held_out: [points, k] losses V at the same points.

    Returns:
      [k] float32, at least 0, with sum 1.

    Raises:
      ValueError: fewer than two points, or different shapes.

    >>> train = jnp.array([[2.0, 2.0], [1.0, 0.2]])
    >>> held_out = jnp.array([[2.0, 2.0], [1.5, 1.2]])  # both gain; the second overfits twice as much
    >>> blending_weights(train, held_out).round(3).tolist()
    [0.714..., 0.286...]

    Source: Gradient-Blending (Wang et al., CVPR 2020), proposition 1 and algorithm 1 (offline).
    """
    train, held_out = jnp.asarray(train, jnp.float32), jnp.asarray(held_out, jnp.float32)
    if train.ndim != 2 or train.shape[0] < 2:
        raise ValueError(f"train must have shape [points, k] with two points or more, got {train.shape}")
    if held_out.shape != train.shape:
        raise ValueError(f"held_out must have the shape of train {train.shape}, got {held_out.shape}")
    gain = jnp.maximum(held_out[0] - held_out[-1], 0.0)
    overfitting = jnp.abs((held_out[-1] - train[-1]) - (held_out[0] - train[0]))
    weights = gain / jnp.maximum(overfitting, _SMALLEST_OVERFITTING) ** 2
    total = jnp.sum(weights)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 1.0 / weights.shape[0])


def held_out_rows(index: Array, *, share: float, seed: int = 0) -> jax.Array:
    """Whether each training sample is held out: a fixed draw for its number.

    Args:
      index: [n] int, numbers of the samples.
      share: of the samples, in (0, 1).
      seed: of the draw.

    >>> bool(jnp.all(held_out_rows(jnp.arange(5), share=0.999)))
    True
    """
    check_number("share", share, lambda x: 0 < x < 1, "in (0, 1)")
    key = jax.random.key(seed)
    draw = jax.vmap(lambda row: uniform(jax.random.fold_in(key, row)))(jnp.maximum(jnp.asarray(index), 0))
    return draw < share


def gradient_blending(
    weights: Mapping[str, float], *, interval: int, share: float = 0.1, seed: int = 0
) -> BalanceMethod:
    """Gradient-Blending as a `BalanceMethod`: `blending_weights` between the super-epochs of one run.

    A fixed share of train is held out: it goes through the model, but no loss counts it. At the end of a super-epoch of
    `interval` steps the mean losses of each head, on trained and on held-out samples, are compared with those of the
    super-epoch before, and the heads get new weights; their sum stays that of `weights`.

    The paper's online form trains a copy of every head's network alone for each estimate; here the losses are those of
    the run itself. Held-out samples enter the statistics of batch norm.

    Args:
      weights: head -> its weight before the first estimate; a head of weight 0 keeps it.
      interval: steps of a super-epoch, at least 1.
      share: of train, in (0, 1).
      seed: of the draw of the held-out samples.

    >>> state = gradient_blending({"a": 1.0, "b": 1.0, "fused": 2.0}, interval=10).init()
    >>> state["weights"].tolist()
    [0.25, 0.25, 0.5]
    """
    check_number("interval", interval, lambda x: x >= 1, "at least 1")
    check_number("share", share, lambda x: 0 < x < 1, "in (0, 1)")
    heads = tuple(head for head, weight in weights.items() if weight > 0)
    whole = sum(weights[head] for head in heads)

    def init() -> PyTree:
        zeros = jnp.zeros((2, len(heads)), jnp.float32)  # trained, held out
        return {
            "weights": jnp.asarray([weights[head] / whole for head in heads], jnp.float32),
            "sum": zeros,
            "count": jnp.copy(zeros),
            "before": jnp.copy(zeros),
            "estimates": jnp.zeros((), jnp.int32),
        }

    def head_weights(own, step, state):
        del step
        return {**own, **{head: whole * state["weights"][k] for k, head in enumerate(heads)}}

    def terms(forward: ForwardPass, state: PyTree, axis_name: str | None) -> BalanceTerms:
        sums, counts = [], []
        for part in (forward.trained, forward.where & ~forward.trained):
            rows = [part if head == FUSED else part & forward.present[head] for head in heads]
            losses = [jax.lax.stop_gradient(forward.losses[head]) for head in heads]
            both = list(zip(losses, rows, strict=True))
            sums.append(jnp.stack([masked_sum(loss, row, axis_name=axis_name) for loss, row in both]))
            counts.append(jnp.stack([masked_count(loss, row, axis_name=axis_name) for loss, row in both]))
        total, count = state["sum"] + jnp.stack(sums), state["count"] + jnp.stack(counts)
        mean = total / jnp.maximum(count, 1.0)
        # Both parts of every head must have occurred; else the super-epoch goes on.
        ends = ((forward.step + 1) % interval == 0) & jnp.all(count > 0)
        found = blending_weights(*jnp.stack([state["before"], mean], axis=1))
        after = {
            "weights": jnp.where(ends & (state["estimates"] > 0), found, state["weights"]),
            "sum": jnp.where(ends, 0.0, total),
            "count": jnp.where(ends, 0.0, count),
            "before": jnp.where(ends, mean, state["before"]),
            "estimates": state["estimates"] + ends,
        }
        metrics = {f"blend_{head}": whole * state["weights"][k] for k, head in enumerate(heads)}
        return BalanceTerms(after, metrics=metrics)

    return BalanceMethod(
        init=init,
        trained=lambda index: ~held_out_rows(index, share=share, seed=seed),
        head_weights=head_weights,
        terms=terms,
    )
