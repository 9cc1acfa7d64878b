"""Optimizers by name: clip, then update, with masked weight decay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import optax

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree

Mask = Callable[[PyTree], PyTree]


def adamw(schedule: optax.Schedule, *, weight_decay: float, mask: Mask, b1: float, b2: float, momentum: float):
    """AdamW (decoupled weight decay)."""
    del momentum
    return optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=mask)


def sgd(schedule: optax.Schedule, *, weight_decay: float, mask: Mask, b1: float, b2: float, momentum: float):
    """SGD with momentum; weight decay is added to the gradient before the momentum, as in PyTorch's SGD."""
    del b1, b2
    decay = optax.add_decayed_weights(weight_decay, mask)
    return optax.chain(decay, optax.sgd(schedule, momentum=momentum or None))


def lars(schedule: optax.Schedule, *, weight_decay: float, mask: Mask, b1: float, b2: float, momentum: float):
    """LARS; biases and norms get neither weight decay nor a layer-wise rate."""
    del b1, b2
    return optax.lars(
        schedule, weight_decay=weight_decay, weight_decay_mask=mask, trust_ratio_mask=mask, momentum=momentum
    )


OPTIMIZERS = {"adamw": adamw, "sgd": sgd, "lars": lars}
SCHEDULES = ("cosine", "linear", "constant", "staircase")


def learning_rate_schedule(
    name: str,
    *,
    peak: float,
    final: float,
    warmup_steps: int,
    total_steps: int,
    drops: Sequence[int] = (),
    drop_factor: float = 0.1,
) -> optax.Schedule:
    """Linear warm-up from 0 to `peak`, then a cosine, linear, constant or staircase schedule.

    Args:
      name: "cosine", "linear", "constant" or "staircase".
      peak: learning rate after the warm-up.
      final: learning rate at the last update, of "cosine" and "linear".
      warmup_steps: updates of warm-up; the update with index `warmup_steps` is the first with `peak`.
      total_steps: updates of the whole training.
      drops, drop_factor: of "staircase": from each of these updates on, the rate is multiplied by the factor.

    Raises:
      ConfigError: unknown name, or a warm-up longer than the training.

    >>> schedule = learning_rate_schedule("cosine", peak=1.0, final=0.0, warmup_steps=2, total_steps=10)
    >>> [round(float(schedule(step)), 2) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if name not in SCHEDULES:
        raise ConfigError(f"optimizer.schedule is {name!r}; it must be one of {', '.join(SCHEDULES)}")
    if warmup_steps >= total_steps > 1:
        raise ConfigError(
            f"optimizer.warmup is {warmup_steps} steps but the whole training is {total_steps}; shorten it"
        )
    left = max(1, total_steps - warmup_steps)
    if name == "cosine":
        decay = optax.cosine_decay_schedule(peak, left, alpha=final / peak if peak else 0.0)
    elif name == "linear":
        decay = optax.linear_schedule(peak, final, left)
    elif name == "staircase":
        factors: dict[int, float] = {}
        for at in drops:  # several may fall on one update, the end of the warm-up for example
            update = max(0, at - warmup_steps)
            factors[update] = factors.get(update, 1.0) * drop_factor
        decay = optax.piecewise_constant_schedule(peak, factors)
    else:
        decay = optax.constant_schedule(peak)
    if warmup_steps == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), decay], [warmup_steps])


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    mask: Mask,
    b1: float = 0.9,
    b2: float = 0.999,
    momentum: float = 0.9,
    clip: float = 0.0,
    accumulate: int = 1,
    rates: Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """The optimizer of a run.

    Args:
      name: "adamw", "sgd" or "lars".
      schedule: update number -> learning rate.
      weight_decay: for the leaves where `mask(params)` is true.
      mask: parameters -> a tree of bool.
      b1, b2: of AdamW. momentum: of SGD and LARS.
      clip: maximum global norm of the gradient; 0 for no clipping.
      accumulate: batches whose gradients are averaged into one update.
      rates: parameters -> a tree of factors of the learning rate, broadcast to each leaf; None for equal rates. It may
        depend on structure and shapes alone. Decoupled weight decay follows the learning rate.

    Raises:
      ConfigError: unknown name, or a number out of range.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer.name is {name!r}; it must be one of {', '.join(OPTIMIZERS)}")
    for setting, value in (("weight_decay", weight_decay), ("clip", clip)):
        if value < 0:
            raise ConfigError(f"optimizer.{setting} must be at least 0, got {value}")
    if accumulate < 1:
        raise ConfigError(f"optimizer.accumulate must be at least 1, got {accumulate}")
    update = OPTIMIZERS[name](schedule, weight_decay=weight_decay, mask=mask, b1=b1, b2=b2, momentum=momentum)
    parts = [optax.clip_by_global_norm(clip)] if clip > 0 else []
    parts += [update] if rates is None else [update, _scale_by(rates)]
    chain = optax.chain(*parts) if len(parts) > 1 else update
    return optax.MultiSteps(chain, accumulate).gradient_transformation() if accumulate > 1 else chain


def _scale_by(rates: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda one, rate: (one * rate).astype(one.dtype), updates, rates(updates))
    )
