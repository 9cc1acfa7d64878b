"""Batch norm over the real rows of all devices, and group norm."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.core.masked_reductions import masked_count, masked_mean

NORMS = ("group", "batch")
CHANNELS_PER_GROUP = 16


class BatchNorm(nn.Module):
    """Batch normalisation with statistics over the whole batch without padding.

    In training, mean and variance are sums over the real rows of all devices, divided by their number.
    `flax.linen.BatchNorm` averages the means of the devices, which is wrong for unequal padding. Evaluation uses
    running statistics (collection "batch_stats", biased variance), updated when that collection is mutable.

    Attributes:
      momentum: share of the old running statistics kept at each step.
      epsilon: added to the variance.
      axis_name: mesh axis that the batch is split over, or None.
      zero_scale: initial scale 0, so that a residual branch that ends here starts as zero.
      dtype: of the output; statistics are float32.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    zero_scale: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, where: Array | None) -> jax.Array:
        """x: [n, ..., channels]; where: [n] bool or None."""
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_variance = self.variable("batch_stats", "variance", jnp.ones, (channels,), jnp.float32)
        scale_init = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = self.param("scale", scale_init, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))

        x = jnp.asarray(x, jnp.float32)
        mean, variance = running_mean.value, running_variance.value
        if train:
            axis_name = None if self.is_initializing() else self.axis_name
            inner = tuple(range(1, x.ndim - 1))
            mean = masked_mean(jnp.mean(x, inner), where, axis_name=axis_name)
            # Second pass about the mean: E[x^2] - E[x]^2 loses the variance of channels that are far from zero.
            variance = masked_mean(jnp.mean(jnp.square(x - mean), inner), where, axis_name=axis_name)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                # No update from a batch in which no sample has this modality.
                kept = jnp.where(masked_count(x, where, axis_name=axis_name) > 0, self.momentum, 1.0)
                running_mean.value = kept * running_mean.value + (1.0 - kept) * mean
                running_variance.value = kept * running_variance.value + (1.0 - kept) * variance
        y = (x - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias
        return y.astype(self.dtype)


class Norm(nn.Module):
    """Group norm (16 channels a group; needs neither the batch nor another device) or batch norm, by name."""

    kind: str = "group"
    zero_scale: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in NORMS:
            raise ConfigError(f"norm must be one of {', '.join(NORMS)}, got {self.kind!r}")

    @nn.compact
    def __call__(self, x: Array, *, train: bool, where: Array | None) -> jax.Array:
        if self.kind == "batch":
            norm = BatchNorm(axis_name=self.axis_name, zero_scale=self.zero_scale, dtype=self.dtype, name="batch")
            return norm(x, train=train, where=where)
        channels = x.shape[-1]
        groups = math.gcd(channels, max(1, channels // CHANNELS_PER_GROUP))
        scale_init = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        return nn.GroupNorm(groups, epsilon=1e-5, scale_init=scale_init, dtype=self.dtype, name="group")(x)
