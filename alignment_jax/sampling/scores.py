"""Balance scores of samples: how alike the modalities are, how hard the sample is, and both in one number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from alignment_jax.sampling._arrays import matrices, vector


def min_max(x: np.ndarray | Sequence[float]) -> np.ndarray:
    """n(x) = (x - min x) / (max x - min x), the whole training set scaled to [0, 1]; 0 where all values are equal.

    Args:
      x: [n] finite values.

    Returns:
      float64 [n] in [0, 1].

    Raises:
      ValueError: x is not a finite vector with at least one value.

    >>> min_max([2.0, 4.0, 3.0])
    array([0. , 1. , 0.5])
    >>> min_max([7.0, 7.0])
    array([0., 0.])

    Source: BSS (Guan et al., IJCAI 2025, arXiv 2501.01470), balance measurer. The authors' code divides 0 by 0 when all
    samples score the same; here such a criterion says nothing, so it counts as 0.
    """
    return _unit_range(vector("x", x))


def prediction_similarity(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Cosine of the modalities' class probabilities, mean over pairs of modalities.

    s_i = mean over pairs (k, l) of cos(softmax(logits_k[i]), softmax(logits_l[i]))

    Args:
      logits: one [n, c] array per modality, two or more.

    Returns:
      float64 [n] in [0, 1]; 1 where every modality predicts the same distribution, 0 only where the distributions have
      so little in common that it underflows.

    Raises:
      ValueError: fewer than two modalities, different shapes, or a logit that is not finite.

    >>> agree = np.array([[4.0, 0.0], [4.0, 0.0]])
    >>> other = np.array([[4.0, 0.0], [0.0, 4.0]])
    >>> prediction_similarity([agree, other]).round(3)
    array([1.   , 0.037])

    Source: BSS, balance measurer. The authors' NVGesture curriculum script takes the cosine of the raw logits; that is
    `feature_similarity(logits)`.
    """
    return _mean_cosine([_softmax(part) for part in matrices("logits", logits, at_least=2)])


def feature_similarity(features: Sequence[np.ndarray]) -> np.ndarray:
    """Cosine of the modalities' features, mean over pairs of modalities.

    s_i = mean over pairs (k, l) of cos(features_k[i], features_l[i])

    Args:
      features: one [n, d] array per modality, two or more, in one shared space; any scale.

    Returns:
      float64 [n] in [-1, 1]; a zero vector is similar to nothing (0).

    Raises:
      ValueError: fewer than two modalities, different shapes, or a feature that is not finite.

    >>> za = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> zb = np.array([[2.0, 0.0], [0.0, 3.0]])
    >>> feature_similarity([za, zb])
    array([1., 0.])

    Source: BSS, the criterion that its ablation calls feature similarity. In a contrastive run it is the similarity of
    the pair.
    """
    return _mean_cosine(matrices("features", features, at_least=2))


def balance_score(
    similarity: np.ndarray | Sequence[float] | None, difficulty: np.ndarray | Sequence[float] | None
) -> np.ndarray:
    """(1 - n(similarity)) + n(difficulty): low for balanced, easy samples, high for unbalanced, hard ones.

    Args:
      similarity: [n], of the modalities' predictions or features; None leaves it out (n(.) = 0).
      difficulty: [n], the loss or the gradient's magnitude; None leaves it out (n(.) = 0).

    Returns:
      float64 [n] in [0, 2].

    Raises:
      ValueError: both are None, lengths differ, or a value is not finite.

    >>> balance_score([0.9, 0.1, 0.5], [0.2, 2.2, 0.2])
    array([0. , 2. , 0.5])

    Source: BSS, heuristic scheduler. Every combination of {feature, prediction} similarity and {loss, gradient
    magnitude} that the paper studies is a choice of the two arguments; for a single criterion the other one is None.
    """
    s, d = normalized_criteria(similarity, difficulty)
    return (1.0 - s) + d


def normalized_criteria(
    similarity: np.ndarray | Sequence[float] | None, difficulty: np.ndarray | Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """n(similarity) and n(difficulty), a criterion that is left out being one that is equal everywhere."""
    if similarity is None and difficulty is None:
        raise ValueError("similarity and difficulty cannot both be None: no criterion is left")
    s = None if similarity is None else vector("similarity", similarity)
    d = None if difficulty is None else vector("difficulty", difficulty, length=None if s is None else len(s))
    zeros = np.zeros(len(s if s is not None else d))  # type: ignore[arg-type]
    return (zeros if s is None else _unit_range(s)), (zeros if d is None else _unit_range(d))


def _unit_range(x: np.ndarray) -> np.ndarray:
    low, high = x.min(), x.max()
    if low == high:
        return np.zeros_like(x)
    with np.errstate(over="ignore"):
        overflows = np.isinf(high - low)  # although every value is finite
    if overflows:
        x, low, high = x / 2, low / 2, high / 2
    return (x - low) / (high - low)


def _softmax(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _mean_cosine(parts: list[np.ndarray]) -> np.ndarray:
    units = [_unit_rows(part) for part in parts]
    # Rounding can carry a cosine past 1 by an ulp, and the documented range is what callers rely on.
    cosines = [np.clip(np.einsum("nd,nd->n", u, v), -1.0, 1.0) for u, v in itertools.combinations(units, 2)]
    return np.mean(cosines, axis=0)


def _unit_rows(x: np.ndarray) -> np.ndarray:
    scale = np.abs(x).max(axis=1, keepdims=True)
    x = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)  # so that squaring neither over- nor underflows
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
