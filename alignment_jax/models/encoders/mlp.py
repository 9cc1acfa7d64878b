"""Multi-layer perceptron for feature vectors."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.dropout import Dropout


class MLP(nn.Module):
    """LN, then dense layers with GELU and dropout: [n, features] -> [n, last width].

    Attributes:
      widths: hidden units of each layer.
      dropout: after each layer, in training.
      dtype: of the arithmetic.
    """

    widths: tuple[int, ...] = (256,)
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise ConfigError("widths must name at least one layer, got none")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        if x.ndim != 2:
            raise ValueError(f"an MLP takes feature vectors [n, features], got shape {x.shape}")
        y = nn.LayerNorm(dtype=self.dtype, name="norm")(jnp.asarray(x, jnp.float32))
        for k, width in enumerate(self.widths):
            y = nn.gelu(nn.Dense(width, dtype=self.dtype, name=f"dense_{k}")(y))
            y = Dropout(self.dropout)(y, train=train, rows=rows)
        return y
