"""Multi-modal temperature and margin schedule: one oscillation for all, one shift per sample."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.schedules.cluster_shift import cluster_shift
from alignment_jax.schedules.oscillation import oscillation


def mm_ts(
    *, alpha: float, period: float, min_shift: float, max_shift: float, min_size: float, max_size: float
) -> Callable[[Array | int, Array], jax.Array]:
    """A temperature (or margin) for every sample at every step.

    tau_i(t) = (alpha / 2) cos(2 pi t / T) + sh(c_i), with `oscillation` and `cluster_shift` as the two terms.

    Use the result as `temperature=` of `losses.infonce` or as `margin=` of `losses.max_margin`; the schedule is the
    same for both. A constant temperature is alpha = 0 with min_shift = max_shift.

    Deviations: in the authors' code the value can fall to zero and below, which reverses the ranking of similarities;
    here settings that could reach 0 for sizes in [min_size, max_size] are an error. Sizes outside that range
    extrapolate as in their code, but not below half of the lowest value within it, so every result is positive.

    Args:
      alpha: peak-to-peak amplitude of the oscillation, in the unit of a temperature.
      period: steps of one oscillation: total steps / number of oscillations.
      min_shift: shift of the smallest cluster; above |alpha| / 2.
      max_shift: shift of the largest cluster; above |alpha| / 2.
      min_size: smallest cluster of the training set, in samples.
      max_size: largest cluster of the training set, in samples.

    Returns:
      (step, sizes [n]) -> float32 [n], all positive.

    Raises:
      ConfigError (a ValueError): the value could reach <= 0, a setting is not finite, max_size < min_size, or the
        period is not positive.

    Source: MM-TS (WACV 2026, arXiv 2603.08202). EPIC-KITCHENS in the paper: alpha 0.2, shifts 0.17 to 0.30, five
    oscillations.

    >>> schedule = mm_ts(alpha=0.2, period=100, min_shift=0.17, max_shift=0.3, min_size=2, max_size=3617)
    >>> [round(float(tau), 4) for tau in schedule(50, jnp.array([2, 3617]))]
    [0.07, 0.2]
    >>> mm_ts(alpha=0.6, period=100, min_shift=0.05, max_shift=0.2, min_size=2, max_size=3617)
    Traceback (most recent call last):
    alignment_jax.core.errors.ConfigError: alpha=0.6 with min_shift=0.05 lets the temperature fall to -0.25, ...
    """
    settings = {"alpha": alpha, "min_shift": min_shift, "max_shift": max_shift, "min_size": min_size}
    for name, value in (*settings.items(), ("max_size", max_size)):
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be finite, got {value}")
    if max_size < min_size:
        raise ConfigError(f"max_size must not be below min_size, got min_size={min_size} and max_size={max_size}")
    name, shift = min(("min_shift", min_shift), ("max_shift", max_shift), key=lambda item: item[1])
    # In float32, as the schedule computes it: 1e-9 above zero in Python may be zero there.
    lowest = float(jnp.float32(shift) - jnp.float32(abs(alpha) / 2))
    if not lowest > 0:
        raise ConfigError(
            f"alpha={alpha} with {name}={shift} lets the temperature fall to {lowest:.6g}, which must stay above 0: "
            f"lower alpha below {2 * max(shift, 0):.6g} or raise {name} above {abs(alpha) / 2:.6g}"
        )
    base = oscillation(alpha, period)
    floor = jnp.float32(shift - lowest / 2)

    def schedule(step: Array | int, sizes: Array) -> jax.Array:
        own = cluster_shift(sizes, min_size=min_size, max_size=max_size, min_shift=min_shift, max_shift=max_shift)
        return base(step) + jnp.maximum(own, floor)

    return schedule
