"""Hubness correction: retrieval scores less what each candidate gets from any query, as one number a candidate.

In high dimensions a few candidates, the hubs, are near to every query. Each function here measures how near a candidate
is to a bank of training queries; subtracting that bias from its scores moves hubs down the ranking.
"""

from alignment_jax.retrieval.biases import csls_bias, inverted_softmax_bias, nnn_bias
from alignment_jax.retrieval.correction import CORRECTIONS, NONE, HubnessCorrection
from alignment_jax.retrieval.fold import fold_bias, with_one
from alignment_jax.retrieval.hubness import k_occurrence, skewness

__all__ = [
    "CORRECTIONS",
    "NONE",
    "HubnessCorrection",
    "csls_bias",
    "fold_bias",
    "inverted_softmax_bias",
    "k_occurrence",
    "nnn_bias",
    "skewness",
    "with_one",
]
