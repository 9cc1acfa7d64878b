"""Small plain convolutional network for spectrograms and small images."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.encoders.pixels import channels_last
from alignment_jax.models.norm import NORMS, Norm


class ConvNet(nn.Module):
    """Stages of a 3x3 convolution with stride 2, norm and ReLU, then the mean over positions.

    [n, frames, bands] or [n, H, W, channels] -> [n, last width].

    Attributes:
      widths: channels of each stage.
      norm: "group" (16 channels a group) or "batch" (statistics over the real rows of all devices).
      axis_name: mesh axis of batch norm's statistics, or None.
      dtype: of the arithmetic.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    norm: str = "group"
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise ConfigError("widths must name at least one stage, got none")
        if self.norm not in NORMS:
            raise ConfigError(f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        x = channels_last(x, dtype=self.dtype)
        for k, width in enumerate(self.widths):
            conv = nn.Conv(width, (3, 3), 2, padding=1, use_bias=False, dtype=self.dtype, name=f"conv_{k}")
            norm = Norm(self.norm, False, self.axis_name, self.dtype, name=f"norm_{k}")
            x = nn.relu(norm(conv(x), train=train, where=where))
        return jnp.mean(x, axis=(1, 2))
