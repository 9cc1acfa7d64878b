"""Residual convolutional network."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.encoders.pixels import channels_last
from alignment_jax.models.norm import NORMS, Norm

# Blocks per stage, and whether they are bottlenecks of three convolutions.
DEPTHS = {10: ((1, 1, 1, 1), False), 18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}
STEMS = ("auto", "small", "large")
SMALL_IMAGE = 64


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with a fourfold output, around a shortcut."""

    width: int
    stride: int
    bottleneck: bool
    norm: str
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, where: Array | None) -> jax.Array:
        def conv(y: jax.Array, width: int, kernel: int, stride: int, name: str, *, last: bool = False) -> jax.Array:
            padding = kernel // 2  # symmetric, as in PyTorch; "SAME" is asymmetric at stride 2
            layer = nn.Conv(
                width, (kernel, kernel), stride, padding=padding, use_bias=False, dtype=self.dtype, name=name
            )
            # Scale 0 in the last norm: the block starts as its shortcut.
            norm = Norm(self.norm, last, self.axis_name, self.dtype, name=f"{name}_norm")
            return norm(layer(y), train=train, where=where)

        if self.bottleneck:
            out_width = 4 * self.width
            y = nn.relu(conv(x, self.width, 1, 1, "conv_0"))
            y = nn.relu(conv(y, self.width, 3, self.stride, "conv_1"))
            y = conv(y, out_width, 1, 1, "conv_2", last=True)
        else:
            out_width = self.width
            y = nn.relu(conv(x, self.width, 3, self.stride, "conv_0"))
            y = conv(y, out_width, 3, 1, "conv_1", last=True)
        if x.shape[-1] != out_width or self.stride != 1:
            x = conv(x, out_width, 1, self.stride, "shortcut")
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet of depth 10, 18, 34 or 50 without its classifier: [n, H, W, channels] -> [n, features].

    Source: He et al. 2016 (v1.5: the stride of a bottleneck is in its 3x3 convolution). Features: 8 width, for depth 50
    32 width. The stem for images up to 64 pixels is one 3x3 convolution with stride 1 instead of 7x7 with stride 2 and
    pooling, which would leave one pixel of a 32 pixel image to the last stage.

    Attributes:
      depth: 10, 18, 34 or 50.
      width: channels of the first stage; 64 in the paper, less for a CPU.
      norm: "group" (16 channels a group) or "batch" (statistics over the real rows of all devices).
      stem: "small", "large" or "auto" (by the shorter side of the image).
      axis_name: mesh axis of batch norm's statistics, or None.
      dtype: of the arithmetic.
    """

    depth: int = 18
    width: int = 64
    norm: str = "group"
    stem: str = "auto"
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in DEPTHS:
            raise ConfigError(f"depth of a ResNet must be one of {', '.join(map(str, DEPTHS))}, got {self.depth}")
        if self.norm not in NORMS:
            raise ConfigError(f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")
        if self.stem not in STEMS:
            raise ConfigError(f"stem must be one of {', '.join(STEMS)}, got {self.stem!r}")

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        y = channels_last(x, dtype=self.dtype)
        small = self.stem == "small" or (self.stem == "auto" and min(y.shape[1:3]) <= SMALL_IMAGE)
        kernel, stride = (3, 1) if small else (7, 2)
        stem = nn.Conv(
            self.width, (kernel, kernel), stride, padding=kernel // 2, use_bias=False, dtype=self.dtype, name="stem"
        )
        norm = Norm(self.norm, False, self.axis_name, self.dtype, name="stem_norm")
        y = nn.relu(norm(stem(y), train=train, where=where))
        if not small:
            y = nn.max_pool(y, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        blocks, bottleneck = DEPTHS[self.depth]
        for stage, count in enumerate(blocks):
            for k in range(count):
                block = ResidualBlock(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and k == 0 else 1,
                    bottleneck=bottleneck,
                    norm=self.norm,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"stage_{stage}_block_{k}",
                )
                y = block(y, train=train, where=where)
        return jnp.mean(y, axis=(1, 2))
