"""Evaluations: what the metrics say about a model on a split. Predict functions come in as arguments."""

from alignment_jax.evals.classification import Classified, chance_classification, classification, classify_items
from alignment_jax.evals.embedding import embed_items
from alignment_jax.evals.retrieval import Embedded, Sampled, recall, sample_retrievals

__all__ = [
    "Classified",
    "Embedded",
    "Sampled",
    "chance_classification",
    "classification",
    "classify_items",
    "embed_items",
    "recall",
    "sample_retrievals",
]
