"""Cosine oscillations over training steps, without phase drift in long runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError

# A step counter is int32; the products in `_turns` must fit into it.
_INT32_MAX = 2**31 - 1


def oscillation(alpha: float, period: float) -> Callable[[Array | int], jax.Array]:
    """An oscillation around zero that starts at its maximum.

    tau_b(t) = (alpha / 2) cos(2 pi t / T), T = `period`.

    The step is reduced modulo the period in integers before anything is rounded, so step 10 T + t gives exactly the
    value of step t. Deviation: the authors round 2 pi t / T in float32, which drifts once t is many periods.

    Args:
      alpha: peak-to-peak amplitude, in the unit of a temperature; the range is [-|alpha| / 2, |alpha| / 2].
      period: steps of one full oscillation, > 0; total steps / number of oscillations, which need not be whole.

    Returns:
      step (scalar or array, counted from 0) -> float32 of the same shape.

    Raises:
      ConfigError: a period that is not positive and finite, or too long for a 32-bit step counter.

    Source: Sheludzko et al., MM-TS (WACV 2026, arXiv 2603.08202), base schedule.

    >>> base = oscillation(0.2, 100)
    >>> [round(float(base(step)), 6) for step in (0, 25, 50, 1_000_050)]
    [0.1, -0.0, -0.1, -0.1]
    """
    turns = _turns(period)

    def schedule(step: Array | int) -> jax.Array:
        return jnp.float32(alpha / 2) * jnp.cos(2 * jnp.pi * turns(step))

    return schedule


def cosine_temperature(t_min: float, t_max: float, period: float) -> Callable[[Array | int], jax.Array]:
    """A temperature that oscillates between two positive values and starts at the higher one.

    tau(t) = t_min + (t_max - t_min) (1 + cos(2 pi t / T)) / 2, T = `period`.

    Args:
      t_min: lowest temperature, > 0; reached at step T / 2.
      t_max: highest temperature, >= t_min; reached at step 0.
      period: steps of one full oscillation, > 0.

    Returns:
      step (scalar or array, counted from 0) -> float32 of the same shape, always within [t_min, t_max].

    Raises:
      ConfigError: not 0 < t_min <= t_max, or a period as in `oscillation`.

    Source: the uni-modal ancestor of MM-TS (Kukleva et al., Temperature Schedules, ICLR 2023, arXiv 2303.13664), whose
    t_max parameter is half of `period` here.

    >>> temperature = cosine_temperature(0.1, 1.0, 400)
    >>> [round(float(temperature(step)), 4) for step in (0, 100, 200, 400)]
    [1.0, 0.55, 0.1, 1.0]
    """
    if not 0 < t_min <= t_max < math.inf:
        raise ConfigError(f"t_min and t_max must satisfy 0 < t_min <= t_max, got t_min={t_min} and t_max={t_max}")
    turns = _turns(period)
    low, high = jnp.float32(t_min), jnp.float32(t_max)

    def schedule(step: Array | int) -> jax.Array:
        value = low + (high - low) * 0.5 * (1.0 + jnp.cos(2 * jnp.pi * turns(step)))
        return jnp.clip(value, low, high)  # low + (high - low) may round past high

    return schedule


def _turns(period: float) -> Callable[[Array | int], jax.Array]:
    """step -> step / period modulo one turn, in [-1/2, 1/2], rounded to float32 once."""
    if not 0 < period < math.inf:
        raise ConfigError(f"period must be a positive number of steps, got {period}")
    # period = p / q, so step / period modulo 1 = (step q mod p) / p. Since (step mod p) q stays below p q = period q^2,
    # this bound on q keeps the product within int32. Whole periods have q = 1 and any usual total / count is exact.
    ratio = Fraction(period).limit_denominator(max(1, math.isqrt(int(_INT32_MAX / period))))
    p, q = ratio.numerator, ratio.denominator
    if not 0 < p * q <= _INT32_MAX:
        raise ConfigError(f"period must fit a 32-bit step counter, got {period} steps")

    def turns(step: Array | int) -> jax.Array:
        step = jnp.asarray(step)
        if jnp.issubdtype(step.dtype, jnp.integer):
            rest = (step.astype(jnp.int32) % p) * q % p
            rest = jnp.where(rest > p // 2, rest - p, rest)  # small angles round least
            return rest.astype(jnp.float32) / jnp.float32(p)
        fraction = jnp.remainder(step.astype(jnp.float32), jnp.float32(period)) / jnp.float32(period)
        return jnp.where(fraction > 0.5, fraction - 1.0, fraction)

    return turns
