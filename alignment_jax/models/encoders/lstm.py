"""Recurrent text encoder."""

from __future__ import annotations

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError
from alignment_jax.models.dropout import Dropout
from alignment_jax.models.masking import last_token, masked_token_mean, take_token, token_mask

POOLINGS = ("last", "mean")


class LSTM(nn.Module):
    """Token table, one LSTM or one in each direction, pooling: [n, L] int32 -> [n, width] (2 width if bidirectional).

    Padding (id 0) must be at the end of a text; it is ignored.

    Attributes:
      vocab_size: number of token ids, padding included.
      embedding_width: width of the token table.
      width: hidden units per direction.
      bidirectional: adds an LSTM that reads from the end.
      pooling: "last" state of each direction, or the "mean" over real tokens.
      dropout: on the token vectors and on the pooled state, in training.
      dtype: of the arithmetic; the cell state is float32.
    """

    vocab_size: int
    embedding_width: int = 128
    width: int = 256
    bidirectional: bool = False
    pooling: str = "last"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        mask = token_mask(x)
        end = last_token(mask)
        table_init = nn.initializers.normal(1.0 / self.embedding_width**0.5)
        embed = nn.Embed(
            self.vocab_size, self.embedding_width, embedding_init=table_init, dtype=self.dtype, name="tokens"
        )
        y = Dropout(self.dropout)(embed(x), train=train, rows=rows)

        # Zeros from y, not from a shape: under shard_map the carry of a scan must vary over the mesh axis as y does.
        zeros = jnp.zeros((x.shape[0], self.width)) + jnp.zeros_like(y[:, 0, :1], jnp.float32)
        states = []
        for name, reverse in (("forward", False), ("backward", True))[: 2 if self.bidirectional else 1]:
            cell = nn.OptimizedLSTMCell(self.width, dtype=self.dtype, name=f"{name}_cell")
            rnn = nn.RNN(cell, reverse=reverse, keep_order=True, name=name)
            hidden = cast(jax.Array, rnn(y, initial_carry=(zeros, zeros), seq_lengths=end + 1))
            if self.pooling == "mean":
                states.append(masked_token_mean(hidden, mask))
            else:
                states.append(hidden[:, 0] if reverse else take_token(hidden, end))
        return Dropout(self.dropout)(jnp.concatenate(states, axis=-1), train=train, rows=rows).astype(self.dtype)
