"""Small residual networks on frozen latents."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError, l2_normalize
from alignment_jax.models.dropout import Dropout
from alignment_jax.models.gelu import gelu
from alignment_jax.models.masking import zero_padded_rows
from alignment_jax.models.temperature import LogitScale

INPUT_NORMS = ("none", "l2")


def normalized_input(z: Array, input_norm: str) -> jax.Array:
    """Latents [n, width] as float32 input of the first layer.

    >>> normalized_input(jnp.array([[3.0, 4.0]]), "l2").round(1).tolist()
    [[0.6..., 0.8...]]
    """
    x = jnp.asarray(z, jnp.float32)
    return l2_normalize(x) if input_norm == "l2" else x


class Block(nn.Module):
    """x + W2 dropout(gelu(W1 LN(x) + b1)) + b2, gelu exact (with erf), LN with epsilon 1e-5."""

    expansion: float
    dropout: float
    zero_init: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, rows: Array | None) -> jax.Array:
        width = x.shape[-1]
        down_init = nn.initializers.zeros if self.zero_init else nn.linear.default_kernel_init
        y = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
        y = nn.Dense(round(self.expansion * width), dtype=self.dtype, name="up")(y)
        y = Dropout(self.dropout)(gelu(y), train=train, rows=rows)
        return x + nn.Dense(width, dtype=self.dtype, kernel_init=down_init, name="down")(y)


class Adapter(nn.Module):
    """Residual blocks, LN, linear map to the shared dimension, unit length: [n, width] -> [n, dim] float32."""

    dim: int
    blocks: int
    expansion: float
    dropout: float
    final_norm: bool
    input_norm: str
    zero_init: bool
    dtype: Any

    @nn.compact
    def __call__(self, z: Array, *, train: bool, rows: Array | None, where: Array | None) -> jax.Array:
        x = normalized_input(zero_padded_rows(z, where), self.input_norm).astype(self.dtype)
        for k in range(self.blocks):
            block = Block(self.expansion, self.dropout, self.zero_init, self.dtype, name=f"block_{k}")
            x = block(x, train=train, rows=rows)
        if self.final_norm:
            x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)
        # float32: the output is divided by a temperature as small as 0.001.
        return l2_normalize(nn.Dense(self.dim, name="project")(x.astype(jnp.float32)))


class Adapters(nn.Module):
    """One adapter per modality: k blocks x + W2 dropout(gelu(W1 LN(x))), then LN, a linear map, L2 normalisation.

    The recipe of FuseMix (Vouitsis et al. 2024, as in the authors' code), which Modest-Align (2025) builds on:
    `Adapters(dim=512, blocks_a=4, blocks_b=4, expansion=4, dropout=0.6)`, the defaults here. Deviation: kernels are
    initialised with flax's LeCun normal and zero biases, not PyTorch's uniform ones. Without blocks and with
    `final_norm=False` each side is an affine map, which can hold a centred closed-form solution: `project/kernel` W and
    `project/bias` -mean W. The same holds for blocks with `zero_init`, which start as the identity.

    Parameters: `a` and `b`, each with `block_0` .. (`norm`, `up`, `down`), `norm`, `project`; and `logit_scale`.

    Attributes:
      dim: shared dimension.
      blocks_a, blocks_b: residual blocks of each side, at least 0.
      expansion: hidden width over input width.
      dropout: share of hidden units dropped in training, in [0, 1).
      final_norm: LN before the last map.
      input_norm: "none", or "l2" to normalise every latent first.
      zero_init: blocks start as the identity (W2 = 0).
      dtype: of the blocks' arithmetic; parameters, the last map and the outputs are float32.
      temperature, temperature_min, temperature_max, learned_temperature, learned_bias, bias_init: see `LogitScale`.

    >>> model = Adapters(dim=4, blocks_a=1, blocks_b=0)
    >>> za, zb = jnp.ones((2, 6)), jnp.ones((2, 5))
    >>> variables = model.init(jax.random.key(0), za, zb)
    >>> outputs = model.apply(variables, za, zb)
    >>> outputs["a"].shape, outputs["b"].shape, round(float(outputs["temperature"]), 2), float(outputs["bias"])
    ((2, 4), (2, 4), 0.07, 0.0)
    """

    dim: int = 512
    blocks_a: int = 4
    blocks_b: int = 4
    expansion: float = 4.0
    dropout: float = 0.6
    final_norm: bool = True
    input_norm: str = "none"
    zero_init: bool = False
    dtype: Any = jnp.float32
    temperature: float = 0.07
    temperature_min: float = 0.001
    temperature_max: float = 0.5
    learned_temperature: bool = True
    learned_bias: bool = False
    bias_init: float = -10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks_a < 0 or self.blocks_b < 0:
            raise ConfigError(f"blocks_a and blocks_b must be at least 0, got {self.blocks_a} and {self.blocks_b}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.input_norm not in INPUT_NORMS:
            raise ConfigError(f"input_norm must be one of {', '.join(INPUT_NORMS)}, got {self.input_norm!r}")

    def setup(self) -> None:
        def adapter(blocks: int) -> Adapter:
            return Adapter(
                dim=self.dim,
                blocks=blocks,
                expansion=self.expansion,
                dropout=self.dropout,
                final_norm=self.final_norm,
                input_norm=self.input_norm,
                zero_init=self.zero_init,
                dtype=self.dtype,
            )

        self.a = adapter(self.blocks_a)
        self.b = adapter(self.blocks_b)
        self.logit_scale = LogitScale(
            temperature=self.temperature,
            temperature_min=self.temperature_min,
            temperature_max=self.temperature_max,
            learned_temperature=self.learned_temperature,
            learned_bias=self.learned_bias,
            bias_init=self.bias_init,
        )

    def __call__(
        self, a: Array, b: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> dict[str, jax.Array]:
        """Embeddings of a batch of pairs.

        Args:
          a: [n, width_a] latents.
          b: [n, width_b] latents.
          train: applies dropout, which needs `rngs={"dropout": key}`.
          rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.
          where: [n] bool, false for padding; None means all true.

        Returns:
          {"a": [n, dim], "b": [n, dim], "temperature": scalar, "bias": scalar}, float32, rows of length one.
        """
        temperature, bias = self.logit_scale()
        return {
            "a": self.a(a, train=train, rows=rows, where=where),
            "b": self.b(b, train=train, rows=rows, where=where),
            "temperature": temperature,
            "bias": bias,
        }

    def encode_a(self, a: Array) -> jax.Array:
        """Embeddings [n, dim] of `a`, without dropout."""
        return self.a(a, train=False, rows=None, where=None)

    def encode_b(self, b: Array) -> jax.Array:
        """Embeddings [n, dim] of `b`, without dropout."""
        return self.b(b, train=False, rows=None, where=None)
