"""Random orders with probabilities that favour balanced samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax.sampling._arrays import DRAW, generator, vector
from alignment_jax.sampling.scores import normalized_criteria

# Probabilities that were normalised in float32 over a large set are off by this much at most.
_SUM_TOLERANCE = 1e-3


def sampling_probabilities(
    similarity: np.ndarray | Sequence[float] | None,
    difficulty: np.ndarray | Sequence[float] | None,
    *,
    floor: float = 0.01,
) -> np.ndarray:
    """Probability of drawing each sample, high where the modalities agree and the loss is low.

    p = w / sum w with w = 1 - (n(difficulty) - n(similarity)) + floor

    Args:
      similarity: [n], of the modalities' predictions or features; None leaves it out (n(.) = 0).
      difficulty: [n], the loss or the gradient's magnitude; None leaves it out (n(.) = 0).
      floor: added to every weight, >= 0. With 0 the least similar and hardest sample has probability 0 and comes
        last in every permutation.

    Returns:
      float64 [n], sums to 1.

    Raises:
      ValueError: both criteria are None, lengths differ, a value is not finite, or floor is negative.

    >>> sampling_probabilities([1.0, 0.0], [0.0, 1.0]).round(4)
    array([0.995, 0.005])

    Source: BSS (Guan et al., IJCAI 2025), learning-based scheduler, re-scored every epoch. Four of the authors'
    six scripts agree with the formula; Twitter2015 has the opposite sign and NVGesture no floor.
    """
    if not (np.isfinite(floor) and floor >= 0.0):
        raise ValueError(f"floor must be >= 0, got {floor}")
    s, d = normalized_criteria(similarity, difficulty)
    weights = 1.0 - (d - s) + floor
    return weights / weights.sum()


def draw_order(
    probabilities: np.ndarray | Sequence[float], *, epoch: int, seed: int, replacement: bool = False
) -> np.ndarray:
    """An epoch's order drawn with the given probabilities: a weighted permutation, or n independent draws.

    Without replacement the law is that of successive draws: the first index has the law p, each next one p restricted
    to the indices still left. All of it at once: i comes before j when E_i / p_i < E_j / p_j, with E exponential.

    Args:
      probabilities: [n], >= 0, summing to 1.
      epoch: counted from 0.
      seed: a non-negative integer.
      replacement: n independent draws from p instead; a sample may appear several times or not at all.

    Returns:
      int64 [n]. Without replacement every index once, those with probability 0 last and uniformly permuted.

    Raises:
      ValueError: a probability is negative or not finite (named by its index), or they do not sum to 1.

    >>> draw_order([0.0, 1.0, 0.0], epoch=0, seed=0).tolist()[0]
    1
    >>> sorted(draw_order([0.2, 0.3, 0.5], epoch=0, seed=0).tolist())
    [0, 1, 2]
    >>> draw_order([0.0, 1.0, 0.0], epoch=0, seed=0, replacement=True).tolist()
    [1, 1, 1]

    Source: BSS, learning-based scheduler: the authors' code draws all n without replacement and does not shuffle again;
    the paper describes probabilistic sampling, hence `replacement`. Exponential keys: Efraimidis and Spirakis 2006.
    """
    p = vector("probabilities", probabilities)
    negative = np.flatnonzero(p < 0)
    if negative.size:
        raise ValueError(f"probabilities[{negative[0]}] is negative: {p[negative[0]]}")
    total = p.sum()
    if abs(total - 1.0) > _SUM_TOLERANCE:
        raise ValueError(f"probabilities must sum to 1, got {total:.6g}; divide the weights by their sum")
    rng = generator(seed, epoch, DRAW)
    if replacement:
        cumulative = np.cumsum(p)
        uniform = rng.random(len(p)) * cumulative[-1]
        # A draw that rounds up to the total must not exceed the last index with a positive probability.
        last = np.flatnonzero(p)[-1]
        return np.minimum(np.searchsorted(cumulative, uniform, side="right"), last).astype(np.int64)
    exponential = rng.standard_exponential(len(p))
    with np.errstate(divide="ignore"):
        # Logarithms, because E / p overflows for the smallest probabilities and would lose their order.
        keys = np.where(p > 0, np.log(exponential) - np.log(p), np.inf)
    return np.lexsort((exponential, keys)).astype(np.int64)
