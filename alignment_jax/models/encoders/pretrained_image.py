"""The image tower of a checkpoint."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.models.encoders.checkpoint import LORA_TARGETS, open_checkpoint, tower_of


class PretrainedImage(nn.Module):
    """uint8 [n, H, W, 3], resized as the checkpoint's files say -> [n, dim]; normalised here, on the device.

    `init` draws random weights; a run replaces them by those of the files (`assembly.tuned_parameters`), which also
    reads `tune` and `lora_targets`.

    Attributes:
      model: "hf:NAME_OR_PATH" of a family of `pretrained.FAMILIES`.
      tune: what is trained: none, head, last:K, lora:RANK, norms, all; see `tuning.split_parameters`.
      lora_targets: patterns of dense layers, separated by commas; see `tuning.add_lora`.
      image_size: pixels of a side in place of the checkpoint's; 0 for its own.
      dropout: rate while training.
      stochastic_depth: see `pretrained.Numerics`.
      remat: recompute each layer in the backward pass.
      dtype: of activations and products.
    """

    model: str
    tune: str = "all"
    lora_targets: str = LORA_TARGETS
    image_size: int = 0
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.tower = tower_of(self, "image")

    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        images = open_checkpoint(self.model, "image").preprocess.images
        return self.tower.encode_image(images.normalize(jnp.asarray(x)), train=train, rows=rows)
