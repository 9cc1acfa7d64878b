"""Sums over similarities S = za zbᵀ for the losses; S is held dense, tiled, gathered or in a ring."""

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.similarity.implementation import Implementation
from alignment_jax.similarity.statistics import DirectionStatistics

__all__ = ["DirectionStatistics", "Implementation"]

__getattr__ = renamed_names(__name__, {"Form": "Implementation"})
