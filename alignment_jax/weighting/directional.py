"""Weights of the two directions of a contrastive loss, from statistics of the similarities or of the losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError, EmaState, ema

if TYPE_CHECKING:
    from alignment_jax.weighting.direction_statistics import DirectionStatistics
    from alignment_jax.weighting.loss_statistics import LossStatistics

Weights = tuple[jax.Array, jax.Array]

_SIGNALS: dict[str, Callable[[Any], tuple[Array, Array]]] = {
    "variance": lambda statistics: statistics.variance,
    "entropy": lambda statistics: statistics.entropy,
    "spread": lambda statistics: statistics.spread,
    "probability": lambda statistics: statistics.probability,
    "loss": lambda statistics: statistics.loss,
}
SIGNALS = ("fixed", *_SIGNALS)
LOSS_SIGNALS = ("probability", "loss")  # read `LossStatistics`; the others read `DirectionStatistics`
MODES = ("proportional", "inverse")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DirectionalState:
    """Part of the train state. `average`: of the pair (ab, ba) of statistics; `count`: int32, updates so far."""

    average: EmaState
    count: jax.Array


def directional(
    signal: str = "variance",
    *,
    decay: float = 0.9,
    mode: str = "proportional",
    strength: float = 1.0,
    floor: float = 0.0,
    warmup_steps: int = 0,
) -> tuple[
    Callable[[], DirectionalState],
    Callable[[DirectionStatistics | LossStatistics | None, DirectionalState], tuple[Weights, DirectionalState]],
]:
    """Weights (w_ab, w_ba) that always sum to 2, from a moving average of one statistic of each direction.

    m <- bias-corrected average of the statistic, `decay` m + (1 - decay) v
    w_ab = 2 m_ab / (m_ab + m_ba), or with 1 / m in mode "inverse"
    w <- 1 + strength (w - 1), then clipped to [floor, 2 - floor]

    The weights are 1 during the warm-up, when both averages are 0 and for the signal "fixed"; no gradient passes
    through them. A statistic that is not finite does not change the average, so that one bad batch cannot affect later
    steps. The state holds scalar arrays only and is the same on every device.

    Args:
      signal: of `direction_statistics` "variance" (of the similarities over candidates), "entropy" (of the softmax) or
        "spread" (max - min); of `loss_statistics` "probability" (variance over anchors of exp(-loss)) or "loss"
        (variance over anchors of the loss); or "fixed" (both weights 1, the baseline; its statistics may be None).
      decay: of the moving average, in [0, 1); 0 follows the last step.
      mode: "proportional": the more variable, hence less certain, direction weighs more; "inverse": it weighs less.
      strength: in [0, 1]; 0 gives the fixed weights, 1 the full effect.
      floor: the smallest weight, in [0, 1].
      warmup_steps: number of first updates with weights (1, 1); they update the average.

    Returns:
      `init() -> state` and `update(statistics, state) -> ((w_ab, w_ba), state)`, float32 scalars.

    Raises:
      ConfigError: an unknown signal or mode, or a number outside its range; the message names the argument.

    Source: Pillai, VALS (arXiv 2503.03202). No code is public: the signals are readings of "variability in the model's
    alignment predictions"; averaging and weight are our reading, too, and mode "inverse" is the opposite one.

    >>> from types import SimpleNamespace
    >>> init, update = directional("variance", floor=0.6)
    >>> (w_ab, w_ba), state = update(SimpleNamespace(variance=(0.03, 0.01)), init())
    >>> round(float(w_ab), 4), round(float(w_ba), 4)  # 1.5 and 0.5, had the floor not been 0.6
    (1.4, 0.6)
    """
    for name, value, known in (("signal", signal, SIGNALS), ("mode", mode, MODES)):
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    for name, number in (("strength", strength), ("floor", floor)):
        if not 0.0 <= number <= 1.0:
            raise ConfigError(f"{name} must be in [0, 1], got {number}")
    if warmup_steps < 0:
        raise ConfigError(f"warmup_steps must not be negative, got {warmup_steps}")
    start, follow = ema(decay)

    def init() -> DirectionalState:
        return DirectionalState(average=start((0.0, 0.0)), count=jnp.zeros((), jnp.int32))

    def update(
        statistics: DirectionStatistics | LossStatistics | None, state: DirectionalState
    ) -> tuple[Weights, DirectionalState]:
        count = state.count + 1
        if signal == "fixed":
            return (jnp.ones((), jnp.float32), jnp.ones((), jnp.float32)), DirectionalState(state.average, count)
        if statistics is None:
            raise ValueError(f"statistics must not be None for the signal {signal!r}")
        value = jax.lax.stop_gradient(jax.tree.map(jnp.float32, tuple(_SIGNALS[signal](statistics))))
        mean, followed = follow(value, state.average)
        usable = jnp.isfinite(value[0]) & jnp.isfinite(value[1])
        average = jax.tree.map(lambda new, old: jnp.where(usable, new, old), followed, state.average)
        deviation = strength * _imbalance(*mean, inverse=mode == "inverse")
        # Not finite: this step's average is unusable too; the train step handles the non-finite loss.
        active = usable & (count > warmup_steps)
        w_ab = 1.0 + jnp.where(active, jnp.clip(deviation, floor - 1.0, 1.0 - floor), 0.0)
        return (w_ab, 2.0 - w_ab), DirectionalState(average, count)

    return init, update


def _imbalance(m_ab: jax.Array, m_ba: jax.Array, *, inverse: bool) -> jax.Array:
    """w_ab - 1 = (m_ab - m_ba) / (m_ab + m_ba), in [-1, 1]; 0 when both are 0. The inverse mode is its negative."""
    m_ab, m_ba = jnp.maximum(m_ab, 0.0), jnp.maximum(m_ba, 0.0)  # an entropy may round to just below zero
    largest = jnp.maximum(m_ab, m_ba)
    # Divided by the largest first: the sum of two huge averages must not overflow, that of two tiny ones not vanish.
    scale = jnp.where(largest > jnp.finfo(jnp.float32).tiny, largest, 1.0)
    m_ab, m_ba = m_ab / scale, m_ba / scale
    total = m_ab + m_ba
    imbalance = (m_ab - m_ba) / jnp.where(total >= 1.0, total, 1.0)
    return -imbalance if inverse else imbalance
