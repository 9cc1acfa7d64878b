"""Confidence intervals of the difference between two methods, paired over seeds and test items.

Two sources of variation are resampled: the seed (initial state, order of the samples), and the choice of test items.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

RESAMPLES = 10_000
_LEVEL = 0.95
_CHUNK = 1 << 21  # numbers of one block of resampled counts
_LARGEST_CACHED = 128 << 20  # bytes of resampled counts


@dataclasses.dataclass(frozen=True)
class Difference:
    """A method against the baseline, seed by seed.

    mean: of the paired differences. deviation: their sample standard deviation, None for a single seed.
    seeds: (low, high), the interval over seeds; None for a single seed, and where neither method varies between seeds
      and there are no items.
    both: (low, high), the interval over seeds and test items; None without items, or for a single seed.
    p_value: of the sign-flip test over seeds, two-sided and exact; None where `seeds` is.
    """

    mean: float
    deviation: float | None
    seeds: tuple[float, float] | None
    both: tuple[float, float] | None
    p_value: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval that decides: over seeds and test items if there is one, else over seeds."""
        return self.both if self.both is not None else self.seeds

    @property
    def verdict(self) -> str:
        """ "better", "worse", "no difference shown", or the reason for no statement.

        >>> Difference(1.0, 1.0, (-0.2, 2.2), None, 0.1).verdict
        'no difference shown'
        """
        if self.interval is None:
            return "one seed: no statement" if self.deviation is None else "no interval: nothing varies between seeds"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


@dataclasses.dataclass(frozen=True)
class ItemScores:
    """Contribution of each test item: metric = sum over parts of sum_i value[part, i] / sum_i count[part, i].

    value: [parts, n]; count: [parts, n], how many queries of this part belong to item i. R@1 from a to b and from b to
    a are two parts: an image is one query of the first, its five captions are five of the second.
    """

    value: np.ndarray
    count: np.ndarray


def compare_paired(
    baseline: Sequence[float],
    method: Sequence[float],
    *,
    items: tuple[Sequence[ItemScores], Sequence[ItemScores]] | None = None,
    resamples: int = RESAMPLES,
) -> Difference:
    """The paired difference method - baseline with its 95 % intervals.

    The plain bootstrap over a few seeds is too narrow: it divides by n instead of n - 1, and five seeds have only 126
    different resamples. So the seeds' deviations from their mean are multiplied by sqrt(n / (n - 1)) t / z, with t and
    z the 97.5 % points of Student's t with n - 1 degrees of freedom and of the normal distribution. For normal
    differences, the limits are close to Student's, whose coverage is exact.

    The interval over both draws seeds and test items independently, each item with its queries (an image with its
    captions). The candidates of a query are not resampled. Baseline and method share each draw, so an item that is hard
    for both does not widen the interval.

    Args:
      baseline, method: the metric for each seed, in the same order of seeds.
      items: for both, an `ItemScores` for each seed, over the same test items; None for the interval over seeds alone.
      resamples: draws of the bootstrap, from a fixed random state.

    Raises:
      ValueError: the numbers of seeds differ, or are 0.

    >>> found = compare_paired([400.0, 402.0, 398.0, 401.0], [405.0, 406.0, 404.0, 405.0])
    >>> found.mean, found.verdict, found.p_value
    (4.75, 'better', 0.125)

    Source: expanded intervals for small samples: Hesterberg, "What teachers should know about the bootstrap" (2015);
    independent resampling of rows and columns: Owen, "The pigeonhole bootstrap" (2007), which is conservative.
    """
    base, other = np.asarray(baseline, np.float64), np.asarray(method, np.float64)
    if base.shape != other.shape or base.ndim != 1 or not base.size:
        raise ValueError(f"baseline and method must have as many seeds, at least one: {base.shape}, {other.shape}")
    each, n = other - base, base.size
    mean = float(each.mean())
    if n == 1:
        return Difference(mean, None, None, None, None)
    if items is None and np.ptp(base) == 0 and np.ptp(other) == 0:
        return Difference(mean, 0.0, None, None, None)
    rng = np.random.default_rng(0)
    weights = _stretched_weights(rng, n, resamples)
    seeds = _limits(weights @ each)
    both = None
    if items is not None:
        count = items[0][0].count
        differences = np.stack([m.value - b.value for b, m in zip(*items, strict=True)])
        both = _limits(np.sum(weights * _resampled_means(rng, count, differences, resamples).sum(axis=-1), axis=1))
    return Difference(mean, float(each.std(ddof=1)), seeds, both, sign_flip(each))


def metric_intervals(
    metrics: Mapping[str, Sequence[ItemScores]], *, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of several metrics of one method, each of its mean over seeds.

    The draws of seeds and test items are those of `compare_paired`, the same for all metrics. With a single seed the
    intervals cover the test items alone.

    Args:
      metrics: name -> an `ItemScores` for each seed; all of one number of seeds and over the same test items.
      resamples: draws of the bootstrap, from a fixed random state.

    >>> right = np.array([[1, 1, 1, 0]] * 25).reshape(1, 100)
    >>> found = metric_intervals({"accuracy": [ItemScores(100.0 * right, np.ones((1, 100)))]})
    >>> [round(limit) for limit in found["accuracy"]]
    [66, 83]
    """
    if not metrics:
        return {}
    rng = np.random.default_rng(0)
    names, (seeds, *_) = list(metrics), {len(each) for each in metrics.values()}
    parts = [len(metrics[name][0].count) for name in names]
    count = np.concatenate([metrics[name][0].count for name in names])
    value = np.stack([np.concatenate([metrics[name][k].value for name in names]) for k in range(seeds)])
    weights = _stretched_weights(rng, seeds, resamples) if seeds > 1 else np.ones((resamples, 1))
    means = np.einsum("rs,rsp->rp", weights, _resampled_means(rng, count, value, resamples))
    ends = np.cumsum(parts)
    return {
        name: _limits(means[:, end - size : end].sum(axis=1))
        for name, size, end in zip(names, parts, ends, strict=True)
    }


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None instead of the latter for a single value.

    >>> mean_and_deviation([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None


def sign_flip(differences: Sequence[float] | np.ndarray, *, most: int = 12) -> float:
    """Two-sided p-value of the sign-flip test: how often random signs give a mean as far from 0 as this one.

    Exact for up to `most` differences; beyond, from 2^most random signs. With n seeds it is at least 2 / 2^n, which is
    0.0625 for five seeds. Therefore intervals decide a verdict, not this test.

    >>> sign_flip([1.0, 2.0, 3.0])
    0.25
    """
    each = np.asarray(differences, np.float64)
    n = each.size
    if n <= most:
        signs: np.ndarray = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(2**most, n))
        signs[0] = 1.0  # the observed signs are one of the possible ones
    totals = np.abs(signs @ each)
    return float(np.mean(totals >= np.abs(each.sum()) * (1 - 1e-12)))


def _stretched_weights(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """Bootstrap weights [resamples, n] of the seeds, rows summing to 1, their deviation from 1 / n stretched."""
    from scipy import stats  # takes a second to import

    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    tail = 0.5 + 0.5 * _LEVEL
    stretch = math.sqrt(n / (n - 1)) * float(stats.t.ppf(tail, n - 1) / stats.norm.ppf(tail))
    return 1 / n + stretch * (counts / n - 1 / n)


def _resampled_means(rng: np.random.Generator, count: np.ndarray, value: np.ndarray, resamples: int) -> np.ndarray:
    """Sum of the values over that of the counts, for each draw of test items: [resamples, seeds, parts].

    Args:
      count: [parts, n]. value: [seeds, parts, n].
    """
    value = value.astype(np.float64)
    seeds, parts, n = value.shape
    # One matrix product for all sums over the drawn items.
    columns = np.concatenate([count.astype(np.float64), value.reshape(seeds * parts, n)]).T
    found = []
    for drawn in _item_draws(rng, n, resamples):
        sums = drawn.astype(np.float64) @ columns
        queries, totals = sums[:, :parts], sums[:, parts:].reshape(-1, seeds, parts)
        found.append(totals / np.maximum(queries, 1.0)[:, None])
    return np.concatenate(found)


def _item_draws(rng: np.random.Generator, n: int, resamples: int) -> Iterable[np.ndarray]:
    """Counts of each of n items in every draw: integer blocks [k, n], `resamples` rows in all.

    All methods of a comparison use the same draws, so small ones are cached.
    """
    if 2 * n * resamples > _LARGEST_CACHED:
        return _draw_items(rng, n, resamples)
    return _cached_draws(json.dumps(rng.bit_generator.state, sort_keys=True), n, resamples)


@functools.lru_cache(maxsize=2)
def _cached_draws(state: str, n: int, resamples: int) -> list[np.ndarray]:
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state)
    return list(_draw_items(rng, n, resamples))


def _draw_items(rng: np.random.Generator, n: int, resamples: int) -> Iterator[np.ndarray]:
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - start)).astype(np.uint16)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.5 - 0.5 * _LEVEL, 0.5 + 0.5 * _LEVEL])
    return float(low), float(high)
