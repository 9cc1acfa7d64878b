"""Vision transformer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.encoders.layers import Layers, check_transformer, sincos_positions
from alignment_jax.models.encoders.pixels import channels_last


class ViT(nn.Module):
    """Patches, fixed sine-cosine positions, transformer layers, mean over patches: [n, H, W, channels] -> [n, width].

    Source: Dosovitskiy et al. 2021; positions and mean pooling as in Beyer et al. 2022 ("Better plain ViT baselines"),
    so that the same parameters work for any multiple of the patch size.

    Attributes:
      patch_size: side of a patch in pixels.
      width, depth, heads, expansion: model width (a multiple of 4 and of heads), layers, attention heads, MLP ratio.
      dropout: after attention and MLP, in training.
      dtype: of the arithmetic.
    """

    patch_size: int = 8
    width: int = 192
    depth: int = 6
    heads: int = 3
    expansion: float = 4.0
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_transformer(width=self.width, depth=self.depth, heads=self.heads, dropout=self.dropout)
        if self.width % 4:
            raise ConfigError(f"width must be a multiple of 4 for the position codes, got {self.width}")

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        x = channels_last(x, dtype=self.dtype)
        n, height, width, channels = x.shape
        p = self.patch_size
        if height % p or width % p:
            raise ValueError(f"images of {height}x{width} pixels cannot be cut into patches of {p}: change patch_size")
        # Equal to a convolution with stride p, and faster on CPU.
        x = x.reshape(n, height // p, p, width // p, p, channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, (height // p) * (width // p), p * p * channels)
        x = nn.Dense(self.width, dtype=self.dtype, name="patches")(x)
        x = x + sincos_positions(height // p, width // p, self.width).astype(self.dtype)
        layers = Layers(self.depth, self.heads, self.expansion, self.dropout, self.dtype, name="encoder")
        return jnp.mean(layers(x, mask=None, rows=rows, train=train), axis=1)
