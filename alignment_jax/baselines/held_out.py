"""A part of the training pairs that is held out from a fit, and its retrieval scores."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from alignment_jax.baselines.moments import check_owner
from alignment_jax.core import Array, ConfigError

# Items of a fold that are scored, and items of each side in its bank. More take time and hardly change the choice.
MAX_SCORED, MAX_BANK = 500, 2048
# (k, strength) of `retrieval.nnn_bias` -> (mean reciprocal rank in [0, 1], rsum in %).
Scores = dict[tuple[int, float], tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """One fold.

    train_a, train_b: [n'] and [m'] rows of the items that are fitted.
    train_own: [m'] int, the place in `train_a` of each b-item's partner.
    scored_a, scored_b: rows of the held-out items that are scored; equal texts are one item.
    partners: bool [scored_a, scored_b].
    bank_a, bank_b: rows of the fitted items that serve as queries of the correction.
    """

    train_a: np.ndarray
    train_b: np.ndarray
    train_own: np.ndarray
    scored_a: np.ndarray
    scored_b: np.ndarray
    partners: np.ndarray
    bank_a: np.ndarray
    bank_b: np.ndarray

    def scores(
        self,
        a: np.ndarray,
        b: np.ndarray,
        bank_a: np.ndarray,
        bank_b: np.ndarray,
        *,
        neighbours: Sequence[int],
        strengths: Sequence[float],
    ) -> Scores:
        """Scores without correction, under the key (neighbours[0], 0.0), and with every correction.

        Args:
          a, b, bank_a, bank_b: embeddings of those rows, unit length.
          neighbours, strengths: of the nearest-neighbour normalisation, see `retrieval.nnn_bias`.
        """
        similarity = a @ b.T
        found: Scores = {(neighbours[0], 0.0): rank_scores(similarity, self.partners)}
        wanted = [strength for strength in strengths if strength > 0]
        if not wanted:
            return found
        bias_a, bias_b = _top_means(a @ bank_b.T, neighbours), _top_means(b @ bank_a.T, neighbours)
        for k, strength in itertools.product(neighbours, wanted):
            # A constant of each query changes no rank, so one matrix serves both directions.
            corrected = similarity - strength * (bias_a[k][:, None] + bias_b[k])
            found[k, strength] = rank_scores(corrected, self.partners)
        return found


def hold_out(
    n: int,
    m: int,
    *,
    b_to_a: Array | None = None,
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    folds: int = 5,
    seed: int = 0,
) -> list[HeldOut]:
    """Divides n a-items, with their b-items, into folds of nearly equal sizes.

    Args:
      n, m: numbers of items.
      b_to_a: [m] int, the a-item of each b-item; None for item i with item i.
      ids_a, ids_b: [n] and [m] int, equal for items with the same content: such a-items share a fold, such b-items are
        partners of the same a-items. None: all differ.
      folds: at least 2.
      seed: of the division, and of the items to score where a fold holds more than 500.

    Raises:
      ConfigError: fewer than 2 folds, or more than a-items of different content.
      ValueError: `b_to_a` of another shape, or out of range.

    >>> [len(fold.scored_a) for fold in hold_out(10, 10, folds=3)]
    [4, 3, 3]
    """
    own = check_owner(n, m, b_to_a)
    _, group = np.unique(np.arange(n) if ids_a is None else np.asarray(ids_a), return_inverse=True)
    groups = int(group.max()) + 1
    if not 2 <= folds <= groups:
        raise ConfigError(f"folds must be between 2 and the number of different items, {groups}, got {folds}")
    ids_b = np.arange(m) if ids_b is None else np.asarray(ids_b)
    rng = np.random.default_rng(seed)
    fold_of_group = np.empty(groups, np.int32)
    fold_of_group[rng.permutation(groups)] = np.arange(groups) % folds
    fold_of = fold_of_group[group]
    return [_fold(fold_of == fold, own, ids_b, rng) for fold in range(folds)]


def _fold(held_out: np.ndarray, own: np.ndarray, ids_b: np.ndarray, rng: np.random.Generator) -> HeldOut:
    train_a, train_b = np.flatnonzero(~held_out), np.flatnonzero(~held_out[own])
    scored = _some(np.flatnonzero(held_out), MAX_SCORED, rng)
    texts = np.flatnonzero(np.isin(own, scored))
    _, first, text = np.unique(ids_b[texts], return_index=True, return_inverse=True)
    partners = np.zeros((len(scored), len(first)), bool)
    partners[np.searchsorted(scored, own[texts]), text] = True
    banks = (_some(rows, MAX_BANK, rng) for rows in (train_a, train_b))
    return HeldOut(train_a, train_b, np.searchsorted(train_a, own[train_b]), scored, texts[first], partners, *banks)


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.permutation(rows)[:most])


def mean_embedding(views: np.ndarray) -> np.ndarray:
    """[n, d] unit length: the normalized mean of normalized views [v, n, d].

    >>> mean_embedding(np.array([[[2.0, 0.0]], [[0.0, 3.0]]])).round(3).tolist()
    [[0.707, 0.707]]
    """

    def unit(z: np.ndarray) -> np.ndarray:
        return z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)

    return unit(unit(views).mean(axis=0))


def _top_means(similarity: np.ndarray, neighbours: Sequence[int]) -> Mapping[int, np.ndarray]:
    """k -> [n] mean of the k largest similarities of each row."""
    width = similarity.shape[1]
    largest = min(max(neighbours), width)
    top = np.partition(similarity, width - largest, axis=1)[:, width - largest :]
    sums = np.cumsum(-np.sort(-top, axis=1), axis=1)
    return {k: sums[:, min(k, width) - 1] / min(k, width) for k in neighbours}


def rank_scores(similarity: np.ndarray, partners: np.ndarray) -> tuple[float, float]:
    """(mean reciprocal rank, rsum in %) over both directions; ties rank last.

    Args:
      similarity: [n, m].
      partners: bool [n, m], at least one in every row and column.

    >>> rank_scores(np.array([[2.0, 3.0], [0.0, 1.0]]), np.eye(2, dtype=bool))
    (0.75, 500.0)
    """
    own = np.where(partners, similarity, -np.inf)
    reciprocal, rsum = 0.0, 0.0
    for axis in (1, 0):
        ahead = ((similarity >= own.max(axis=axis, keepdims=True)) & ~partners).sum(axis=axis)
        reciprocal += 0.5 * float((1.0 / (1.0 + ahead)).mean())
        rsum += sum(100.0 * float((ahead < k).mean()) for k in (1, 5, 10))
    return reciprocal, rsum
