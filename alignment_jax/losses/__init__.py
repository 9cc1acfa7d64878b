"""Contrastive losses as pure functions: per sample, unreduced, float32."""

from alignment_jax.core.normalize import l2_normalize
from alignment_jax.losses.infonce import infonce, infonce_with_statistics
from alignment_jax.losses.max_margin import max_margin, max_margin_with_statistics
from alignment_jax.losses.reduce import reduce
from alignment_jax.losses.sigmoid import sigmoid

__all__ = [
    "infonce",
    "infonce_with_statistics",
    "l2_normalize",
    "max_margin",
    "max_margin_with_statistics",
    "reduce",
    "sigmoid",
]
