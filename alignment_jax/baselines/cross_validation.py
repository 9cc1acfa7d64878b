"""Chooses the settings of the closed form by cross-validation inside the training pairs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from alignment_jax.baselines.cca import Solution, decompose
from alignment_jax.baselines.moments import as_views, check_owner, paired_moments
from alignment_jax.core import Array, ConfigError

# Held-out items of a fold that are scored, and training items of a side in the bank. More would take time, not sense.
MAX_SCORED, MAX_BANK = 500, 2048
# Rounds of the coordinate search; it ends earlier where nothing changes.
_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class CcaGrid:
    """The candidates of `cross_validate_cca`.

    shrinkages_a, shrinkages_b: of each side, see `fit_cca`.
    powers: exponents on the canonical correlations.
    dims: dimensions to keep; those above the smaller number of features count as all features.
    neighbours: k of the nearest-neighbour normalisation.
    strengths: its factors; 0 is no correction and is always tried.
    """

    shrinkages_a: Sequence[float]
    shrinkages_b: Sequence[float]
    powers: Sequence[float]
    dims: Sequence[int]
    neighbours: Sequence[int] = (16,)
    strengths: Sequence[float] = (0.5, 0.75)


@dataclasses.dataclass(frozen=True)
class CcaSettings:
    """One candidate: settings of `fit_cca`, then k and factor of `retrieval.nnn_bias`; strength 0 is no correction."""

    shrinkage: tuple[float, float]
    dim: int
    power: float
    neighbours: int
    strength: float


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """The result of `cross_validate_cca`.

    settings: the S candidates that were tried.
    scores: [folds, S] mean reciprocal rank of each on the held-out items of each fold, in [0, 1].
    rsums: [folds, S] rsum of the same, in %.
    folds: [n] int, the fold that holds out each a-item.
    """

    settings: tuple[CcaSettings, ...]
    scores: np.ndarray
    rsums: np.ndarray
    folds: np.ndarray

    def best(self, *, corrected: bool = True) -> CcaSettings:
        """The candidate with the best mean score; among those without correction where not `corrected`."""
        allowed = [corrected or one.strength == 0 for one in self.settings]
        return self.settings[int(np.argmax(np.where(allowed, self.scores.mean(axis=0), -np.inf)))]

    def rsum(self, settings: CcaSettings) -> float:
        """Mean rsum of a candidate over the folds, in %."""
        return float(self.rsums[:, self.settings.index(settings)].mean())


def split_folds(n: int, folds: int, *, seed: int, groups: Array | None = None) -> np.ndarray:
    """[n] int32: the fold of every item, of nearly equal sizes; items of a group share a fold.

    >>> np.bincount(split_folds(10, 3, seed=0)).tolist()
    [4, 3, 3]
    """
    _, own = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    count = own.max() + 1
    if not 2 <= folds <= count:
        raise ConfigError(f"folds must be between 2 and the number of different items, {count}, got {folds}")
    fold_of_group = np.empty(count, np.int32)
    fold_of_group[np.random.default_rng(seed).permutation(count)] = np.arange(count) % folds
    return fold_of_group[own]


def cross_validate_cca(
    za: Array,
    zb: Array,
    grid: CcaGrid,
    *,
    b_to_a: Array | None = None,
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    folds: int = 5,
    seed: int = 0,
) -> CrossValidation:
    """Scores settings of CCA and of a hubness correction on held-out parts of the training pairs.

    Each fold is held out once. The rest gives the projections and the bank of queries. The covariances of a fold are
    decomposed once; all candidates share them. The score of a candidate is the mean reciprocal rank of both directions
    on the held-out items: with few items it changes in smaller steps than recall. Every dimension and correction is
    tried with each (shrinkage a, shrinkage b, power) that a coordinate search visits; it starts from the middle of each
    list, and changes one of the three at a time until nothing improves.

    Runs on the host, in NumPy: float64 for the decompositions, float32 for similarities.

    Args:
      za, zb, b_to_a: as for `fit_cca`; views of an a-item are averaged as in evaluation.
      grid: the candidates.
      ids_a, ids_b: [n] and [m] int, equal for items with the same content: they share a fold (a) and are partners of
        the same items (b). None: all differ.
      folds: number of folds, at least 2.
      seed: of the division into folds, and of the items that are scored where a fold holds more than 500.

    Returns:
      The candidates and their scores.

    Raises:
      ConfigError: a candidate out of range, or more folds than items.
      ValueError: as `fit_cca`.

    >>> rng = np.random.default_rng(0)
    >>> za = rng.normal(size=(60, 4)); zb = za @ rng.normal(size=(4, 5)) + rng.normal(size=(60, 5))
    >>> grid = CcaGrid(shrinkages_a=(0.1, 0.9), shrinkages_b=(0.1, 0.9), powers=(1.0,), dims=(2, 4))
    >>> cross_validate_cca(za, zb, grid, folds=3).best().dim
    4
    """
    za, zb = as_views("za", za), as_views("zb", zb)
    own = check_owner(za.shape[1], zb.shape[1], b_to_a)
    ids_b = np.arange(zb.shape[1]) if ids_b is None else np.asarray(ids_b)
    fold_of = split_folds(za.shape[1], folds, seed=seed, groups=ids_a)
    rng = np.random.default_rng(seed)
    parts = [_Fold(za, zb, own, ids_b, fold_of == fold, rng) for fold in range(folds)]
    table: dict[CcaSettings, np.ndarray] = {}
    axes = (tuple(grid.shrinkages_a), tuple(grid.shrinkages_b), tuple(grid.powers))

    @functools.cache
    def score(point: tuple[float, float, float]) -> float:
        rows = [part.scores(point[:2], point[2], grid) for part in parts]
        found = {setting: np.array([row[setting] for row in rows]) for setting in rows[0]}
        table.update(found)
        return max(float(each[:, 0].mean()) for each in found.values())

    _coordinate_search(axes, score)
    values = np.stack(list(table.values()), axis=1)
    return CrossValidation(tuple(table), values[..., 0], values[..., 1], fold_of)


def _coordinate_search(
    axes: tuple[tuple[float, ...], ...], score: Callable[[tuple[float, float, float]], float]
) -> None:
    """Calls `score` along one axis after the other, from the best point so far."""
    if not all(axes):
        raise ConfigError("shrinkages_a, shrinkages_b and powers must hold at least one candidate each")
    point = tuple(axis[len(axis) // 2] for axis in axes)
    for _ in range(_ROUNDS):
        before = point
        for place, axis in enumerate(axes):
            point = max(((*point[:place], value, *point[place + 1 :]) for value in axis), key=score)
        if point == before:
            return


class _Fold:
    """The training part of a fold, decomposed, and its held-out items."""

    def __init__(self, za, zb, own, ids_b, held_out, rng):
        inside = ~held_out[own]
        rows, held_rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        place = np.cumsum(~held_out) - 1
        self._problem = decompose(paired_moments(za[:, rows], zb[:, inside], b_to_a=place[own[inside]]))
        scored = np.sort(rng.permutation(held_rows)[:MAX_SCORED])
        queries = np.flatnonzero(np.isin(own, scored))
        # Equal texts are one item with several partners.
        _, first, group = np.unique(ids_b[queries], return_index=True, return_inverse=True)
        self._partners = np.zeros((len(scored), len(first)), bool)
        self._partners[np.searchsorted(scored, own[queries]), group] = True
        bank_a = np.sort(rng.permutation(rows)[:MAX_BANK])
        bank_b = np.sort(rng.permutation(np.flatnonzero(inside))[:MAX_BANK])
        self._a, self._b = za[:, scored], zb[:, queries[first]]
        self._bank_a, self._bank_b = za[:, bank_a], zb[:, bank_b]
        self._projected: tuple[tuple[float, float], Solution, list[np.ndarray]] | None = None

    def _project(self, shrinkage):
        if self._projected is None or self._projected[0] != shrinkage:
            solution = self._problem.solve(shrinkage, squared=True)
            mean_a, mean_b = solution.moments.mean_a, solution.moments.mean_b
            a, b = solution.a.astype(np.float32), solution.b.astype(np.float32)
            centred = [
                (z - mean).astype(np.float32) @ matrix
                for z, mean, matrix in (
                    (self._a, mean_a, a),
                    (self._b, mean_b, b),
                    (self._bank_a, mean_a, a),
                    (self._bank_b, mean_b, b),
                )
            ]
            self._projected = shrinkage, solution, centred
        return self._projected[1:]

    def scores(
        self, shrinkage: tuple[float, float], power: float, grid: CcaGrid
    ) -> dict[CcaSettings, tuple[float, float]]:
        """Reciprocal rank and rsum of every dimension and correction with this shrinkage and power."""
        solution, projected = self._project(shrinkage)
        found: dict[CcaSettings, tuple[float, float]] = {}
        for dim in sorted({min(dim, len(solution.r)) for dim in grid.dims}):
            # Relative to the first, so that float32 holds large powers, too.
            weight = ((solution.r[:dim] / solution.r[0]) ** power).astype(np.float32)
            a, b, bank_a, bank_b = (_embedded(z[..., :dim] * weight) for z in projected)
            similarity = a @ b.T
            liked_a = _top_means(a @ bank_b.T, grid.neighbours)
            liked_b = _top_means(b @ bank_a.T, grid.neighbours)
            found[CcaSettings(shrinkage, dim, power, grid.neighbours[0], 0.0)] = _rank_scores(similarity, self._partners)
            for k, strength in itertools.product(grid.neighbours, grid.strengths):
                if strength > 0:
                    # A constant of each query changes no rank, so one matrix serves both directions.
                    corrected = similarity - strength * (liked_a[k][:, None] + liked_b[k])
                    setting = CcaSettings(shrinkage, dim, power, k, strength)
                    found[setting] = _rank_scores(corrected, self._partners)
        return found


def _embedded(views: np.ndarray) -> np.ndarray:
    """[n, d] unit length: the normalized mean of the normalized views [v, n, d]."""

    def unit(z: np.ndarray) -> np.ndarray:
        return z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)

    return unit(unit(views).mean(axis=0))


def _top_means(similarity: np.ndarray, neighbours: Sequence[int]) -> dict[int, np.ndarray]:
    """k -> [n] mean of the k largest similarities of each row."""
    width = similarity.shape[1]
    largest = min(max(neighbours), width)
    top = np.partition(similarity, width - largest, axis=1)[:, width - largest :]
    sums = np.cumsum(-np.sort(-top, axis=1), axis=1)
    return {k: sums[:, min(k, width) - 1] / min(k, width) for k in neighbours}


def _rank_scores(similarity: np.ndarray, partners: np.ndarray) -> tuple[float, float]:
    """(mean reciprocal rank, rsum in %) of both directions; ties rank last."""
    own = np.where(partners, similarity, -np.inf)
    reciprocal, rsum = 0.0, 0.0
    for axis in (1, 0):
        ahead = ((similarity >= own.max(axis=axis, keepdims=True)) & ~partners).sum(axis=axis)
        reciprocal += 0.5 * float((1.0 / (1.0 + ahead)).mean())
        rsum += sum(100.0 * float((ahead < k).mean()) for k in (1, 5, 10))
    return reciprocal, rsum
