"""The sums over S = za zbᵀ that the losses are made of, with S held four ways: dense, tiled, gathered, ring."""

from alignment_jax.similarity.implementation import Form
from alignment_jax.similarity.statistics import DirectionStatistics

__all__ = ["DirectionStatistics", "Form"]
