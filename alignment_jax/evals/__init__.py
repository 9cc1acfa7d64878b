"""Evaluations: what the metrics say about a model on a split. Predict functions come in as arguments."""

from alignment_jax.evals.calibration import calibration, calibrations, fit_temperature
from alignment_jax.evals.collapse import collapse_warning, collapsed_sides, effective_rank, participation, variability
from alignment_jax.evals.embedding import embed_items, mean_direction
from alignment_jax.evals.embedding_map import PERPLEXITIES, embedding_map, modality_gap
from alignment_jax.evals.head_accuracy import (
    Classified,
    balance,
    chance_classification,
    classification,
    classify_items,
)
from alignment_jax.evals.long_tail import BUCKETS, long_tail, size_buckets
from alignment_jax.evals.measure import measure, watched_values
from alignment_jax.evals.retrieval_results import Embedded, Sampled, multi_instance, recall, sample_retrievals
from alignment_jax.evals.stress import Noise, latent_noise, retained, stress, stress_of_models
from alignment_jax.evals.zero_shot import chance_zero_shot, class_embeddings, zero_shot

__all__ = [
    "BUCKETS",
    "PERPLEXITIES",
    "Classified",
    "Embedded",
    "Noise",
    "Sampled",
    "balance",
    "calibration",
    "calibrations",
    "chance_classification",
    "chance_zero_shot",
    "class_embeddings",
    "classification",
    "classify_items",
    "collapse_warning",
    "collapsed_sides",
    "effective_rank",
    "embed_items",
    "embedding_map",
    "fit_temperature",
    "latent_noise",
    "long_tail",
    "mean_direction",
    "measure",
    "modality_gap",
    "multi_instance",
    "participation",
    "recall",
    "retained",
    "sample_retrievals",
    "size_buckets",
    "stress",
    "stress_of_models",
    "variability",
    "watched_values",
    "zero_shot",
]
