"""Closed-form baselines to compare trained alignments with."""

from alignment_jax.baselines.cca import CcaChoice, Projection, fit_cca, tune_cca

__all__ = ["CcaChoice", "Projection", "fit_cca", "tune_cca"]
