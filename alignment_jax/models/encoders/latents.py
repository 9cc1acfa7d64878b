"""Frozen latents beside an encoder of the other modality."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.models.dropout import Dropout


class Latents(nn.Module):
    """Passes latents [n, width] on, with dropout while training; the projection of `TwoTower` follows.

    >>> Latents().apply({}, jnp.ones((2, 3))).shape
    (2, 3)
    """

    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool = False, rows: Array | None = None, where: Array | None = None
    ) -> jax.Array:
        if x.ndim != 2:
            raise ValueError(f"latents are vectors [n, width], got shape {x.shape}")
        return Dropout(self.dropout)(jnp.asarray(x, jnp.float32), train=train, rows=rows)
