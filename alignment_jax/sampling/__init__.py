"""The order of samples: balance scores (NumPy or JAX), curricula and weighted permutations (NumPy, on the host).

All functions are pure; random draws depend on `(seed, epoch)` alone, so a run that resumes within an epoch has the same
order.
"""

from alignment_jax.sampling.balanced import class_balanced_order
from alignment_jax.sampling.curriculum import curriculum_order, pacing, shuffle_order
from alignment_jax.sampling.difficulty import cross_entropy, gradient_magnitude
from alignment_jax.sampling.probabilistic import draw_order, sampling_probabilities
from alignment_jax.sampling.scores import balance_score, feature_similarity, min_max, prediction_similarity

__all__ = [
    "balance_score",
    "class_balanced_order",
    "cross_entropy",
    "curriculum_order",
    "draw_order",
    "feature_similarity",
    "gradient_magnitude",
    "min_max",
    "pacing",
    "prediction_similarity",
    "sampling_probabilities",
    "shuffle_order",
]
