"""Text transformer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.dropout import Dropout
from alignment_jax.models.encoders.layers import Layers, check_transformer
from alignment_jax.models.masking import last_token, masked_token_mean, take_token, token_mask

POOLINGS = ("mean", "first", "last")


class TextTransformer(nn.Module):
    """Token and position tables, layers that attend to real tokens only, pooling: [n, L] int32 -> [n, width].

    Padding (id 0) is ignored: features do not depend on its length.

    Attributes:
      vocab_size: number of token ids, padding included.
      max_length: longest text in tokens; longer ones are an error.
      width, depth, heads, expansion: model width, layers, attention heads, MLP ratio.
      pooling: "mean" over real tokens, the "first" token (where a tokenizer puts a class token) or the "last" real one.
      dropout: after the tables, attention and MLP, in training.
      dtype: of the arithmetic.
    """

    vocab_size: int
    max_length: int = 77
    width: int = 192
    depth: int = 3
    heads: int = 3
    expansion: float = 4.0
    pooling: str = "mean"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_transformer(width=self.width, depth=self.depth, heads=self.heads, dropout=self.dropout)
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}")

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        length = x.shape[1]
        if length > self.max_length:
            raise ValueError(f"texts of {length} tokens exceed max_length {self.max_length}; raise it or cut the texts")
        mask = token_mask(x)
        table_init = nn.initializers.normal(0.02)
        tokens = nn.Embed(self.vocab_size, self.width, embedding_init=table_init, dtype=self.dtype, name="tokens")(x)
        positions = self.param("positions", table_init, (self.max_length, self.width))
        y = tokens + positions[:length].astype(self.dtype)
        y = Dropout(self.dropout)(y, train=train, rows=rows)
        layers = Layers(self.depth, self.heads, self.expansion, self.dropout, self.dtype, name="encoder")
        y = layers(y, mask=mask[:, None, None, :], rows=rows, train=train)
        if self.pooling == "mean":
            return masked_token_mean(y, mask)
        return y[:, 0] if self.pooling == "first" else take_token(y, last_token(mask))
