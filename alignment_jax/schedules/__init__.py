"""Closures from step to value: temperatures, margins, smoothing and noise over the course of training."""

from alignment_jax.schedules.between import constant, cosine, linear
from alignment_jax.schedules.cluster_shift import cluster_shift
from alignment_jax.schedules.mm_ts import mm_ts
from alignment_jax.schedules.oscillation import cosine_temperature, oscillation

__all__ = ["cluster_shift", "constant", "cosine", "cosine_temperature", "linear", "mm_ts", "oscillation"]
