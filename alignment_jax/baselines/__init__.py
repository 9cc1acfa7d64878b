"""Closed-form baselines to compare trained alignments with."""

from alignment_jax.baselines.cca import (
    CcaChoice,
    Projection,
    fit_cca,
    fit_cca_to_moments,
    tune_cca,
    tune_cca_to_moments,
)
from alignment_jax.baselines.cross_validation import CcaGrid, CcaSettings, CrossValidation, cross_validate_cca
from alignment_jax.baselines.device_moments import chunk_moments, merge_moments
from alignment_jax.baselines.held_out import HeldOut, hold_out, mean_embedding
from alignment_jax.baselines.moments import Moments, paired_moments
from alignment_jax.baselines.weighted_cosine import weighted_unit_vectors

__all__ = [
    "CcaChoice",
    "CcaGrid",
    "CcaSettings",
    "CrossValidation",
    "HeldOut",
    "Moments",
    "Projection",
    "chunk_moments",
    "cross_validate_cca",
    "fit_cca",
    "fit_cca_to_moments",
    "hold_out",
    "mean_embedding",
    "merge_moments",
    "paired_moments",
    "tune_cca",
    "tune_cca_to_moments",
    "weighted_unit_vectors",
]
