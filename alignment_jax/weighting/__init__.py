"""Weighting of the two directions of a contrastive loss by statistics of the similarities."""

from alignment_jax.similarity.statistics import DirectionStatistics
from alignment_jax.weighting.direction_statistics import direction_statistics
from alignment_jax.weighting.directional import DirectionalState, directional

__all__ = ["DirectionStatistics", "DirectionalState", "direction_statistics", "directional"]
