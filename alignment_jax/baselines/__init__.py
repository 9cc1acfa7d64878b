"""Closed-form baselines to compare trained alignments with."""

from alignment_jax.baselines.cca import CcaChoice, Projection, fit_cca, tune_cca
from alignment_jax.baselines.cross_validation import CcaGrid, CcaSettings, CrossValidation, cross_validate_cca
from alignment_jax.baselines.held_out import HeldOut, hold_out, mean_embedding
from alignment_jax.baselines.weighted_cosine import weighted_unit_vectors

__all__ = [
    "CcaChoice",
    "CcaGrid",
    "CcaSettings",
    "CrossValidation",
    "HeldOut",
    "Projection",
    "cross_validate_cca",
    "fit_cca",
    "hold_out",
    "mean_embedding",
    "tune_cca",
    "weighted_unit_vectors",
]
