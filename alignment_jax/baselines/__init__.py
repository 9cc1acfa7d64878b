"""Closed-form baselines to compare trained alignments with."""

from alignment_jax.baselines.cca import Projection, fit_cca

__all__ = ["Projection", "fit_cca"]
