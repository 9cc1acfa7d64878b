"""Weighting of the two directions of a contrastive loss by statistics of the similarities or of the losses."""

from alignment_jax.similarity.statistics import DirectionStatistics
from alignment_jax.weighting.direction_statistics import direction_statistics
from alignment_jax.weighting.directional import DirectionalState, directional
from alignment_jax.weighting.loss_statistics import LossStatistics, loss_statistics

__all__ = [
    "DirectionStatistics",
    "DirectionalState",
    "LossStatistics",
    "direction_statistics",
    "directional",
    "loss_statistics",
]
