"""Learnable temperature of the softmax and bias of the sigmoid loss."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError


def straight_through_clip(x: Array, low: float, high: float) -> jax.Array:
    """min(max(x, low), high), with the gradient of the identity.

    A plain clip has no gradient outside its bounds: a parameter that crossed a bound could not return.

    >>> float(straight_through_clip(jnp.float32(3.0), 0.0, 1.0))
    1.0
    >>> float(jax.grad(straight_through_clip)(3.0, 0.0, 1.0))
    1.0
    """
    x = jnp.asarray(x)
    return x + jax.lax.stop_gradient(jnp.clip(x, low, high) - x)


class LogitScale(nn.Module):
    """Temperature exp(clip(p)) with p = log temperature, and an optional bias.

    The parameter is the logarithm (as in CLIP): one optimizer step changes the temperature by the same factor at any
    value. With the temperature itself (as in FuseMix), a learning rate that suits 0.07 is ten times too large at 0.007,
    and its gradient, about 1 / temperature larger than all others, dominates clipping by the global norm. As in
    FuseMix, the gradient is not masked at the bounds, and `clamp_temperature` moves the parameter back after each step.

    Attributes:
      temperature: initial (or fixed) value, inside the bounds.
      temperature_min, temperature_max: bounds of a learned temperature; defaults of FuseMix.
      learned_temperature: False for a constant temperature.
      learned_bias: True adds the bias parameter of the sigmoid loss; otherwise the bias is the constant 0.
      bias_init: its initial value (SigLIP: -10, so that training starts near the prior of few positives).
    """

    temperature: float = 0.07
    temperature_min: float = 0.001
    temperature_max: float = 0.5
    learned_temperature: bool = True
    learned_bias: bool = False
    bias_init: float = -10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.temperature_min <= self.temperature_max:
            raise ConfigError(
                "temperature_min and temperature_max must satisfy 0 < min <= max, got "
                f"{self.temperature_min} and {self.temperature_max}"
            )
        if self.learned_temperature and not self.temperature_min <= self.temperature <= self.temperature_max:
            raise ConfigError(
                f"temperature must start inside [{self.temperature_min}, {self.temperature_max}], got "
                f"{self.temperature}: change it or temperature_min and temperature_max"
            )
        if not self.temperature > 0.0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """Returns (temperature, bias), float32 scalars."""
        temperature = jnp.float32(self.temperature)
        if self.learned_temperature:
            log_temperature = self.param("log_temperature", nn.initializers.constant(math.log(self.temperature)), ())
            low, high = math.log(self.temperature_min), math.log(self.temperature_max)
            temperature = jnp.exp(straight_through_clip(log_temperature, low, high))
        bias = jnp.float32(0.0)
        if self.learned_bias:
            bias = self.param("bias", nn.initializers.constant(self.bias_init), ())
        return temperature, bias


def clamp_temperature(params: Any, *, temperature_min: float = 0.001, temperature_max: float = 0.5) -> Any:
    """Moves every `log_temperature` of a parameter tree back between the bounds; other values are unchanged.

    Call it after each optimizer step: a parameter whose gradient points outwards would drift far beyond the bound.

    Args:
      params: the tree from `model.init(...)["params"]`.
      temperature_min, temperature_max: bounds, positive.

    Returns:
      A tree like `params`.

    >>> params = {"logit_scale": {"log_temperature": jnp.log(2.0)}, "kernel": jnp.ones(2)}
    >>> round(float(jnp.exp(clamp_temperature(params)["logit_scale"]["log_temperature"])), 3)
    0.5
    """
    low, high = math.log(temperature_min), math.log(temperature_max)

    def clamp(path: tuple[Any, ...], value: Any) -> Any:
        return jnp.clip(value, low, high) if getattr(path[-1], "key", None) == "log_temperature" else value

    return jax.tree_util.tree_map_with_path(clamp, params)
