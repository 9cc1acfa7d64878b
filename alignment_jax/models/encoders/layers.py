"""Transformer layers shared by the image and the text encoder."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.dropout import Dropout
from alignment_jax.models.layer_stack import with_transform


class Layer(nn.Module):
    """x + attention(LN x), then x + MLP(LN x)."""

    heads: int
    expansion: float
    dropout: float
    train: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: Array | None, rows: Array | None) -> tuple[jax.Array, None]:
        width = x.shape[-1]
        y = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, deterministic=True, force_fp32_for_softmax=True, name="attention"
        )
        y = attention(y, mask=mask)
        x = x + Dropout(self.dropout)(y, train=self.train, rows=rows)
        y = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(x)
        y = nn.gelu(nn.Dense(round(self.expansion * width), dtype=self.dtype, name="up")(y))
        y = nn.Dense(width, dtype=self.dtype, name="down")(y)
        # None: nn.scan collects nothing per layer.
        return x + Dropout(self.dropout)(y, train=self.train, rows=rows), None


class Layers(nn.Module):
    """`depth` pre-norm layers and a final LN, compiled once for any depth (parameters are stacked on axis 0)."""

    depth: int
    heads: int
    expansion: float
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, mask: Array | None, rows: Array | None, train: bool) -> jax.Array:
        """x: [n, L, width]; mask: [n, 1, 1, L] bool, false for masked keys, or None."""
        stack = nn.scan(
            with_transform(Layer, (*self.path, "layers")),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=self.depth,
        )
        layers = stack(self.heads, self.expansion, self.dropout, train, self.dtype, name="layers")
        x, _ = layers(x, mask, rows)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x)


def check_transformer(*, width: int, depth: int, heads: int, dropout: float) -> None:
    """Raises ConfigError for inconsistent sizes."""
    if depth < 1:
        raise ConfigError(f"depth must be at least 1, got {depth}")
    if heads < 1 or width % heads:
        raise ConfigError(f"width must be a multiple of heads, got width {width} and heads {heads}")
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout must be in [0, 1), got {dropout}")


def sincos_positions(height: int, width: int, channels: int) -> jax.Array:
    """Fixed two-dimensional sine and cosine position codes, [height * width, channels]; channels a multiple of 4.

    Half the channels encode the column, half the row, at wavelengths from 2 pi to 10000 * 2 pi (as in MoCo v3).

    >>> sincos_positions(2, 3, 8).shape
    (6, 8)
    """
    y, x = jnp.mgrid[:height, :width]
    frequencies = 10000.0 ** -jnp.linspace(0.0, 1.0, channels // 4)
    angles_x, angles_y = (jnp.outer(axis.ravel(), frequencies) for axis in (x, y))
    return jnp.concatenate([jnp.sin(angles_x), jnp.cos(angles_x), jnp.sin(angles_y), jnp.cos(angles_y)], axis=1)
