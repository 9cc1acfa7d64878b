"""Closed-form baselines to compare trained alignments with."""

from alignment_jax.baselines.cca import CcaChoice, Projection, fit_cca, tune_cca
from alignment_jax.baselines.weighted_cosine import weighted_unit_vectors

__all__ = ["CcaChoice", "Projection", "fit_cca", "tune_cca", "weighted_unit_vectors"]
