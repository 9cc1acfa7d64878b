"""Evaluations of a model on one split; predict functions come in as arguments."""

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.evals.calibration import calibration, calibration_at_temperatures, fit_temperature
from alignment_jax.evals.collapse import (
    collapse_metrics,
    collapse_warning,
    collapsed_sides,
    effective_rank,
    variance_and_participation,
)
from alignment_jax.evals.device_evaluation import evaluate_on_device, metrics_of_seeds
from alignment_jax.evals.embedding import embed_items, mean_direction
from alignment_jax.evals.embedding_map import PERPLEXITIES, embedding_map, modality_gap
from alignment_jax.evals.head_accuracy import (
    SplitLogits,
    balance,
    chance_classification,
    classification_metrics,
    classify_items,
)
from alignment_jax.evals.head_items import head_items
from alignment_jax.evals.hubness import (
    CORRECTED,
    QueryBank,
    choose_correction,
    fold_embeddings,
    fold_side,
    hubness_metrics,
    metrics_with_hubness,
)
from alignment_jax.evals.recall_by_cluster_size import BUCKETS, long_tail_recall, size_buckets
from alignment_jax.evals.retrieval_results import (
    SampledRetrievals,
    SplitEmbeddings,
    multi_instance_metrics,
    recall_metrics,
    sample_retrievals,
    shares_ranks,
)
from alignment_jax.evals.stress_tests import Noise, latent_noise, retained_share, stress_test, stress_test_models
from alignment_jax.evals.zero_shot import chance_zero_shot, class_embeddings, zero_shot

__all__ = [
    "BUCKETS",
    "CORRECTED",
    "PERPLEXITIES",
    "Noise",
    "QueryBank",
    "SampledRetrievals",
    "SplitEmbeddings",
    "SplitLogits",
    "balance",
    "calibration",
    "calibration_at_temperatures",
    "chance_classification",
    "chance_zero_shot",
    "choose_correction",
    "class_embeddings",
    "classification_metrics",
    "classify_items",
    "collapse_metrics",
    "collapse_warning",
    "collapsed_sides",
    "effective_rank",
    "embed_items",
    "embedding_map",
    "evaluate_on_device",
    "fit_temperature",
    "fold_embeddings",
    "fold_side",
    "head_items",
    "hubness_metrics",
    "latent_noise",
    "long_tail_recall",
    "mean_direction",
    "metrics_of_seeds",
    "metrics_with_hubness",
    "modality_gap",
    "multi_instance_metrics",
    "recall_metrics",
    "retained_share",
    "sample_retrievals",
    "shares_ranks",
    "size_buckets",
    "stress_test",
    "stress_test_models",
    "variance_and_participation",
    "zero_shot",
]

__getattr__ = renamed_names(
    __name__,
    {
        "Classified": "SplitLogits",
        "Embedded": "SplitEmbeddings",
        "Sampled": "SampledRetrievals",
        "calibrations": "calibration_at_temperatures",
        "classification": "classification_metrics",
        "long_tail": "long_tail_recall",
        "measure": "evaluate_on_device",
        "multi_instance": "multi_instance_metrics",
        "participation": "variance_and_participation",
        "recall": "recall_metrics",
        "retained": "retained_share",
        "stress": "stress_test",
        "stress_of_models": "stress_test_models",
        "variability": "collapse_metrics",
        "watched_values": "metrics_of_seeds",
    },
)
