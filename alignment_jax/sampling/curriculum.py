"""Curricula: the number of samples of an epoch, their choice and their order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from alignment_jax.sampling._arrays import CURRICULUM, SHUFFLE, generator, vector


def pacing(epoch: int, *, n: int, start: float = 0.1, epochs: int = 40) -> int:
    """Number of samples that a curriculum shows in an epoch, growing until it shows all of them.

    floor(n l(e)) with l(e) = min(1, sqrt((1 - start^2) (e + 1) / epochs + start^2)), at least 1

    Args:
      epoch: e, counted from 0.
      n: samples in the training set.
      start: initial share of the samples, in [0, 1]; epoch 0 already shows more.
      epochs: epochs of growth; epoch `epochs - 1` is the first to show everything.

    Returns:
      An integer in [1, n].

    Raises:
      ValueError: an argument is out of range.

    >>> [pacing(e, n=1000) for e in (0, 9, 39, 100)]
    [186, 507, 1000, 1000]

    Source: BSS (Guan et al., IJCAI 2025), heuristic scheduler; the values of its scripts are the defaults. An epoch
    always shows at least one sample, which differs from the authors only for sets of a handful of samples.
    """
    if epoch < 0:
        raise ValueError(f"epoch must be >= 0, got {epoch}")
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    if not 0.0 <= start <= 1.0:
        raise ValueError(f"start must be in [0, 1], got {start}")
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}")
    # Compared, because the rounded square root may end one sample short of the whole set.
    share = 1.0 if epoch + 1 >= epochs else math.sqrt((1 - start**2) * (epoch + 1) / epochs + start**2)
    return max(1, math.floor(n * min(1.0, share)))


def curriculum_order(
    scores: np.ndarray | Sequence[float],
    *,
    epoch: int,
    seed: int,
    start: float = 0.1,
    epochs: int = 40,
    reverse: bool = False,
) -> np.ndarray:
    """The samples that a curriculum shows in an epoch, in shuffled order.

    The first `pacing(epoch)` samples by ascending score, ties by the smaller index, permuted. Later epochs show every
    sample that earlier ones showed.

    Args:
      scores: [n], low first; `balance_score` puts balanced samples first.
      epoch: counted from 0; with `seed` it decides the permutation.
      seed: a non-negative integer.
      start: initial share of the samples, in [0, 1].
      epochs: epochs of growth.
      reverse: anti-curriculum: descending scores, ties still by the smaller index.

    Returns:
      int64 [pacing(epoch)], distinct indices into `scores`.

    Raises:
      ValueError: a score is not finite (named by its index), or an argument is out of range.

    >>> order = curriculum_order([0.3, 0.1, 0.2, 0.9], epoch=0, seed=0, start=0.5, epochs=4)
    >>> order.tolist()  # floor(4 * 0.66) = 2 samples
    [1, 2]

    Source: BSS, heuristic scheduler (curriculum; anti-curriculum is its control).
    """
    values = vector("scores", scores)
    shown = pacing(epoch, n=len(values), start=start, epochs=epochs)
    ranking = np.argsort(-values if reverse else values, kind="stable")
    return generator(seed, epoch, CURRICULUM).permutation(ranking[:shown]).astype(np.int64)


def shuffle_order(n: int, *, epoch: int, seed: int) -> np.ndarray:
    """A uniform permutation of all samples, the order of plain training.

    Args:
      n: samples in the training set.
      epoch: counted from 0.
      seed: a non-negative integer.

    Returns:
      int64 [n], every index once.

    Raises:
      ValueError: n < 1, or epoch or seed is not a non-negative integer.

    >>> sorted(shuffle_order(4, epoch=0, seed=7).tolist())
    [0, 1, 2, 3]
    """
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    return generator(seed, epoch, SHUFFLE).permutation(n).astype(np.int64)
