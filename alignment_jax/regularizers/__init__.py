"""Regularizers: terms beside a contrastive loss that keep what the frozen encoders already know."""

from alignment_jax.regularizers.structure import structure
from alignment_jax.regularizers.transport import transport

__all__ = ["structure", "transport"]
