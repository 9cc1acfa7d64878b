"""Similarity of a sample's modalities, and its balance score from similarity and difficulty."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.sampling._arrays import array_namespace, masks, matrices, vector


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
    samples score the same; here such a criterion counts as 0.
    """
    return _unit_range(vector("x", x))


def prediction_similarity(logits: Sequence[Array], *, present: Sequence[Array | None] | None = None) -> Array:
    """Cosine of the modalities' class probabilities, mean over pairs of modalities.

    s_i = mean over pairs (k, l) of cos(softmax(logits_k[i]), softmax(logits_l[i]))

    Args:
      logits: one [n, c] array per modality, two or more; NumPy or JAX, also under `jax.jit`.
      present: for each modality bool [n], the samples that have it, or None for all. Pairs without a missing modality
        count; a sample without such a pair has similarity 0.

    Returns:
      [n] in [0, 1], float64 of NumPy or float32 of JAX; 1 where every modality predicts the same distribution, 0 only
      where the distributions have so little in common that it underflows.

    Raises:
      ValueError: fewer than two modalities, different shapes, or a NumPy logit that is not finite.

    >>> agree = np.array([[4.0, 0.0], [4.0, 0.0]])
    >>> other = np.array([[4.0, 0.0], [0.0, 4.0]])
    >>> prediction_similarity([agree, other]).round(3)
    array([1.   , 0.037])

    Source: BSS, balance measurer. The authors' NVGesture curriculum script takes the cosine of the raw logits; that is
    `feature_similarity(logits)`.
    """
    parts = matrices("logits", logits, at_least=2)
    return _mean_cosine([softmax(part) for part in parts], masks(present, parts))


def feature_similarity(features: Sequence[Array], *, present: Sequence[Array | None] | None = None) -> Array:
    """Cosine of the modalities' features, mean over pairs of modalities.

    s_i = mean over pairs (k, l) of cos(features_k[i], features_l[i])

    Args:
      features: one [n, d] array per modality, two or more, in one shared space; any scale; NumPy or JAX.
      present: as in `prediction_similarity`.

    Returns:
      [n] in [-1, 1], float64 of NumPy or float32 of JAX; 0 for a zero vector.

    Raises:
      ValueError: fewer than two modalities, different shapes, or a NumPy feature that is not finite.

    >>> za = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> zb = np.array([[2.0, 0.0], [0.0, 3.0]])
    >>> feature_similarity([za, zb])
    array([1., 0.])

    Source: BSS, the criterion that its ablation calls feature similarity. In a contrastive run it is the similarity of
    the pair.
    """
    parts = matrices("features", features, at_least=2)
    return _mean_cosine(parts, masks(present, parts))


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
    """n(similarity) and n(difficulty); 0 for a criterion that is None."""
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


def softmax(x: Any) -> Any:
    """Softmax over the last axis of a NumPy or JAX array [n, c]."""
    xp = array_namespace(x)
    with np.errstate(over="ignore", under="ignore"):
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def _mean_cosine(parts: list[Any], present: list[Any] | None) -> Any:
    xp = array_namespace(*parts)
    units = [_unit_rows(part, xp) for part in parts]
    total: Any = 0.0
    count: Any = 0.0
    for k, m in itertools.combinations(range(len(units)), 2):
        cosine = xp.sum(units[k] * units[m], axis=-1)
        both = [mask for mask in (present[k], present[m]) if mask is not None] if present else []
        for mask in both:
            cosine = xp.where(mask, cosine, 0.0)
        total = total + cosine
        count = count + (xp.asarray(functools.reduce(operator.and_, both), dtype=cosine.dtype) if both else 1.0)
    # Rounding can carry a cosine past 1 by an ulp.
    return xp.clip(total / xp.maximum(count, 1.0), -1.0, 1.0)


def _unit_rows(x: Any, xp: Any) -> Any:
    scale = xp.max(xp.abs(x), axis=-1, keepdims=True)
    x = x / xp.where(scale > 0, scale, 1.0)  # so that squaring neither over- nor underflows
    norm = xp.sqrt(xp.sum(xp.square(x), axis=-1, keepdims=True))
    return x / xp.where(norm > 0, norm, 1.0)
