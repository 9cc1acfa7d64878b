"""Retrieval and classification metrics as pure functions of arrays.

Concrete arrays give Python floats; the same functions under `jax.jit` give traced float32 scalars, except
`top_k_accuracy` and the pseudo-values, which take concrete arrays alone.
"""

from alignment_jax.core.distinct_items import DistinctItems, distinct_items
from alignment_jax.metrics.classification import accuracy, macro_f1, mean_average_precision
from alignment_jax.metrics.multi_instance import multi_instance
from alignment_jax.metrics.pseudo_values import macro_f1_pseudo_values, mean_average_precision_pseudo_values
from alignment_jax.metrics.ranks import retrieval_ranks, shares_ranks
from alignment_jax.metrics.recall import recall_at, recall_from_ranks, retrieval_recall
from alignment_jax.metrics.top_k import top_k
from alignment_jax.metrics.top_k_accuracy import top_k_accuracy

__all__ = [
    "DistinctItems",
    "accuracy",
    "distinct_items",
    "macro_f1",
    "macro_f1_pseudo_values",
    "mean_average_precision",
    "mean_average_precision_pseudo_values",
    "multi_instance",
    "recall_at",
    "recall_from_ranks",
    "retrieval_ranks",
    "retrieval_recall",
    "shares_ranks",
    "top_k",
    "top_k_accuracy",
]
