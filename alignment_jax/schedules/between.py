"""Constant, linear and cosine schedules: smoothing, noise scale, mixing concentration."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError


def constant(value: float) -> Callable[[Array | int], jax.Array]:
    """The same value at every step.

    Args:
      value: any finite number.

    Returns:
      step (scalar or array) -> float32 of the same shape.

    Raises:
      ConfigError: value is not finite.

    >>> float(constant(0.25)(1000))
    0.25
    """
    _check_finite(value=value)

    def schedule(step: Array | int) -> jax.Array:
        return jnp.full(jnp.shape(step), value, jnp.float32)

    return schedule


def linear(start: float, end: float, steps: float) -> Callable[[Array | int], jax.Array]:
    """A straight line from one value to another, then the second value.

    v(t) = start + (end - start) min(t / steps, 1)

    Our reading of Modest-Align's "dynamic alpha" (arXiv 2510.21606, embedding smoothing), whose form the paper does not
    define; `cosine` is the alternative.

    Args:
      start: value at step 0.
      end: value from step `steps` on.
      steps: duration in steps, > 0.

    Returns:
      step (scalar or array, counted from 0) -> float32 of the same shape, always between the two values.

    Raises:
      ConfigError: an end that is not finite, or steps that are not positive and finite.

    >>> smoothing = linear(0.0, 0.5, 100)
    >>> [float(smoothing(step)) for step in (0, 50, 100, 1000)]
    [0.0, 0.25, 0.5, 0.5]
    """
    return _between(start, end, steps, lambda fraction: fraction)


def cosine(start: float, end: float, steps: float) -> Callable[[Array | int], jax.Array]:
    """Half a cosine wave from one value to another, then the second value.

    v(t) = end + (start - end) (1 + cos(pi min(t / steps, 1))) / 2

    The same formula as FuseMix's cosine schedule of the mixing concentration; unlike `optax.cosine_decay_schedule` it
    may start at zero and rise.

    Args:
      start: value at step 0.
      end: value from step `steps` on.
      steps: duration in steps, > 0.

    Returns:
      step (scalar or array, counted from 0) -> float32 of the same shape, always between the two values.

    Raises:
      ConfigError: an end that is not finite, or steps that are not positive and finite.

    >>> smoothing = cosine(0.0, 0.5, 100)
    >>> [round(float(smoothing(step)), 4) for step in (0, 50, 100, 1000)]
    [0.0, 0.25, 0.5, 0.5]
    """
    return _between(start, end, steps, lambda fraction: 0.5 * (1.0 - jnp.cos(jnp.pi * fraction)))


def _between(
    start: float, end: float, steps: float, shape: Callable[[jax.Array], jax.Array]
) -> Callable[[Array | int], jax.Array]:
    _check_finite(start=start, end=end)
    if not 0 < steps < math.inf:
        raise ConfigError(f"steps must be a positive number, got {steps}")

    def schedule(step: Array | int) -> jax.Array:
        fraction = jnp.clip(jnp.asarray(step, jnp.float32) / jnp.float32(steps), 0.0, 1.0)
        value = jnp.float32(start) + jnp.float32(end - start) * shape(fraction)
        # start + (end - start) may round past end; smoothing must stay below 1 and noise must not turn negative.
        return jnp.clip(value, jnp.float32(min(start, end)), jnp.float32(max(start, end)))

    return schedule


def _check_finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be finite, got {value}")
