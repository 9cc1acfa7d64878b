"""The text tower of a checkpoint."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.models.encoders.checkpoint import LORA_TARGETS, tower_of


class PretrainedText(nn.Module):
    """int32 [n, L], ids of the checkpoint's tokenizer -> [n, dim].

    `init` draws random weights; see `PretrainedImage`.

    Attributes:
      model: "hf:NAME_OR_PATH", or "st:NAME_OR_PATH" for the pooling, normalisation and prompts that
        sentence-transformers' files ask for.
      prefix: put before every text ("query: " for E5), beside that of the files.
      tune, lora_targets, dropout, stochastic_depth, remat, dtype: see `PretrainedImage`.
    """

    model: str
    tune: str = "all"
    lora_targets: str = LORA_TARGETS
    prefix: str = ""
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.tower = tower_of(self, "text")

    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        return self.tower.encode_text(x, train=train, rows=rows)
