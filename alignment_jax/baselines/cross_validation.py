"""Chooses the settings of the closed form by cross-validation inside the training pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from alignment_jax.baselines.cca import Problem, Solution, decompose
from alignment_jax.baselines.held_out import HeldOut, mean_embedding
from alignment_jax.baselines.moments import as_views, paired_moments
from alignment_jax.core import Array, ConfigError

Point = tuple[float, float, float]
# Rounds of the coordinate search; it ends earlier where nothing changes.
_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class CcaGrid:
    """The candidates of `cross_validate_cca`.

    shrinkages_a, shrinkages_b: of each side, see `fit_cca`.
    powers: exponents on the canonical correlations.
    dims: dimensions to keep; those above the smaller number of features count as all features.
    neighbours: k of the nearest-neighbour normalisation, see `retrieval.nnn_bias`.
    strengths: its factors; no correction is always a candidate.
    start: (shrinkage a, shrinkage b, power) of the first candidate, the nearest in the lists; it also decides between
      candidates that score alike. None for the middle of each list.
    """

    shrinkages_a: Sequence[float]
    shrinkages_b: Sequence[float]
    powers: Sequence[float]
    dims: Sequence[int]
    neighbours: Sequence[int] = (16,)
    strengths: Sequence[float] = (0.5, 0.75)
    start: Point | None = None


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
    steps: [S] distance of each from the start: places in the lists of shrinkages, powers and dimensions.
    """

    settings: tuple[CcaSettings, ...]
    scores: np.ndarray
    rsums: np.ndarray
    steps: np.ndarray

    def best(self, *, corrected: bool = True) -> CcaSettings:
        """The candidate nearest to the start among those within one standard error of the best mean score.

        The standard error is of the difference to the best over the folds. With few pairs many candidates score alike,
        and the best of them is best by luck; with many pairs only the best one is left. Of equally near candidates the
        one with the best mean score is chosen.

        Args:
          corrected: False for candidates without correction only.

        Source: Breiman et al., Classification and Regression Trees (1984), the one-standard-error rule; there the
        simplest model takes the place of the nearest.
        """
        allowed = np.array([corrected or one.strength == 0 for one in self.settings])
        mean = np.where(allowed, self.scores.mean(axis=0), -np.inf)
        behind = self.scores[:, [int(np.argmax(mean))]] - self.scores
        error = behind.std(axis=0, ddof=1) / np.sqrt(len(behind))
        alike = allowed & (behind.mean(axis=0) <= error)
        nearest = alike & (self.steps == self.steps[alike].min())
        return self.settings[int(np.argmax(np.where(nearest, mean, -np.inf)))]

    def rsum(self, settings: CcaSettings) -> float:
        """Mean rsum of a candidate over the folds, in %."""
        return float(self.rsums[:, self.settings.index(settings)].mean())


def cross_validate_cca(
    za: Array, zb: Array, grid: CcaGrid, folds: Sequence[HeldOut], *, average_views: bool = True
) -> CrossValidation:
    """Scores settings of CCA and of a hubness correction on held-out parts of the training pairs.

    Each fold's own training part gives the projections and the bank of queries. Its covariances are decomposed once;
    all candidates share them. The score of a candidate is the mean reciprocal rank of both directions on the held-out
    items: with few items it changes in smaller steps than recall. Every dimension and correction is tried with each
    (shrinkage a, shrinkage b, power) that a coordinate search visits: it changes one of the three at a time until
    nothing improves.

    Runs on the host, in NumPy: float64 for covariances, float32 for projections and similarities.

    Args:
      za, zb: as for `fit_cca`; the fit reads all views.
      grid: the candidates.
      folds: from `hold_out`, of these items.
      average_views: whether a held-out item is embedded as the mean over its views, or by the first alone.

    Returns:
      The candidates that were tried, and their scores.

    Raises:
      ConfigError: a candidate out of range, or a list without candidates.
      ValueError: as `fit_cca`.

    >>> rng = np.random.default_rng(0)
    >>> za = rng.normal(size=(60, 4))
    >>> zb = za @ rng.normal(size=(4, 5)) + rng.normal(size=(60, 5))
    >>> from alignment_jax.baselines import hold_out
    >>> grid = CcaGrid(shrinkages_a=(0.1, 0.9), shrinkages_b=(0.1, 0.9), powers=(1.0,), dims=(2, 4))
    >>> cross_validate_cca(za, zb, grid, hold_out(60, 60, folds=3)).best().dim
    4
    """
    axes = (tuple(grid.shrinkages_a), tuple(grid.shrinkages_b), tuple(grid.powers))
    if not (all(axes) and grid.dims and grid.neighbours):
        raise ConfigError("every list of candidates but strengths must hold at least one")
    za, zb = as_views("za", za), as_views("zb", zb)
    parts = [_Part(za, zb, fold, average_views) for fold in folds]
    table: dict[CcaSettings, np.ndarray] = {}

    @functools.cache
    def score(point: Point) -> float:
        rows = [part.scores(point, grid) for part in parts]
        found = {setting: np.array([row[setting] for row in rows]) for setting in rows[0]}
        table.update(found)
        return max(float(each[:, 0].mean()) for each in found.values())

    first = [
        (len(axis) // 2 if grid.start is None else int(np.argmin(np.abs(np.subtract(axis, grid.start[place])))))
        for place, axis in enumerate(axes)
    ]
    _coordinate_search(axes, first, score)
    values = np.stack(list(table.values()), axis=1)
    dims = sorted({one.dim for one in table})
    steps = [
        abs(dims.index(one.dim) - len(dims) // 2)
        + sum(
            abs(axis.index(value) - place)
            for axis, value, place in zip(axes, (*one.shrinkage, one.power), first, strict=True)
        )
        for one in table
    ]
    return CrossValidation(tuple(table), values[..., 0], values[..., 1], np.array(steps))


def _coordinate_search(axes: Sequence[Sequence[float]], first: Sequence[int], score: Callable[[Point], float]) -> None:
    """Scores the candidates of one axis after the other, from the best point so far."""
    point = [axis[place] for axis, place in zip(axes, first, strict=True)]
    for _ in range(_ROUNDS):
        before = list(point)
        for place, axis in enumerate(axes):
            tried = [[*point[:place], value, *point[place + 1 :]] for value in axis]
            point = max(tried, key=lambda one: score((one[0], one[1], one[2])))
        if point == before:
            return


class _Part:
    """One fold, with its covariances decomposed."""

    def __init__(self, za: np.ndarray, zb: np.ndarray, fold: HeldOut, average_views: bool):
        self._fold = fold
        self._problem: Problem = decompose(
            paired_moments(za[:, fold.train_a], zb[:, fold.train_b], b_to_a=fold.train_own)
        )
        za, zb = (za, zb) if average_views else (za[:1], zb[:1])
        a, b = (
            [(z[:, rows] - mean).astype(np.float32) for rows in rows_of]
            for z, mean, rows_of in (
                (za, self._problem.moments.mean_a, (fold.scored_a, fold.bank_a)),
                (zb, self._problem.moments.mean_b, (fold.scored_b, fold.bank_b)),
            )
        )
        self._latents = (a[0], b[0], a[1], b[1])
        self._projected = functools.lru_cache(maxsize=1)(self._project)

    def _project(self, shrinkage: tuple[float, float]) -> tuple[Solution, list[np.ndarray]]:
        solution = self._problem.solve(shrinkage, squared=True)
        a, b = solution.a.astype(np.float32), solution.b.astype(np.float32)
        return solution, [z @ matrix for z, matrix in zip(self._latents, (a, b, a, b), strict=True)]

    def scores(self, point: Point, grid: CcaGrid) -> dict[CcaSettings, tuple[float, float]]:
        """Score and rsum of every dimension and correction."""
        shrinkage, power = point[:2], point[2]
        solution, projected = self._projected(shrinkage)
        found: dict[CcaSettings, tuple[float, float]] = {}
        for dim in sorted({min(dim, len(solution.r)) for dim in grid.dims}):
            # Relative to the first, so that float32 holds large powers, too.
            weight = ((solution.r[:dim] / solution.r[0]) ** power).astype(np.float32)
            a, b, bank_a, bank_b = (mean_embedding(z[..., :dim] * weight) for z in projected)
            scores = self._fold.scores(a, b, bank_a, bank_b, neighbours=grid.neighbours, strengths=grid.strengths)
            for (k, strength), score in scores.items():
                found[CcaSettings(shrinkage, dim, power, k, strength)] = score
        return found
