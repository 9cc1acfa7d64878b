"""Calibration of the retrieval softmax, and mean similarity of true and wrong pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alignment_jax import metrics
from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.types import Array

# Entries of one block of the similarity matrix: 64 MiB in float64.
_BLOCK = 1 << 23
# Temperatures of `fit_temperature`, a factor of about 1.1 apart.
GRID: tuple[float, ...] = tuple(float(t) for t in np.geomspace(0.002, 2.0, 73))

_STRIDE = 8


@dataclasses.dataclass(frozen=True)
class QueryAnswers:
    """The answers of a model to the queries of one direction.

    confidence [q] in [0, 1]: probability of the item ranked first; correct bool [q]; entropy [q] in nats;
    log_true [q]: log-probability of the right item; hardest [q]: similarity of the best wrong candidate.
    """

    confidence: np.ndarray
    correct: np.ndarray
    entropy: np.ndarray
    log_true: np.ndarray
    hardest: np.ndarray
    candidates: int


@renamed_keywords(a_of_b="b_to_a")
def calibration(
    za: Array,
    zb: Array,
    b_to_a: Array,
    *,
    temperature: float,
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    bins: int = 10,
    block: int = _BLOCK,
) -> dict[str, Any]:
    """Expected calibration error and entropy of the retrieval softmax, and the similarity of true and wrong pairs.

    p_i = softmax_j(S_ij / temperature), S = za zbT.  The answer to a query is its first-ranked item, the confidence its
    probability. ECE = sum over bins of (share of the queries) * |mean confidence - share of right answers|.
    An item with several captions has the sum of their probabilities, and its captions do not compete. A caption of
    several items counts for the first of them and for the query that it belongs to.

    Args:
      za: [n, d] embeddings, not normalised here.
      zb: [m, d] embeddings, any number for each a-item.
      b_to_a: [m] integers, the a-item that each b-item belongs to.
      temperature: positive; that of training, or from `fit_temperature`.
      ids_a, ids_b: integers [n] and [m], equal for rows of the same content, which are one item; None: all rows differ.
      bins: equally wide intervals of confidence.
      block: entries of the similarity matrix in memory at a time.

    Returns:
      For both directions `a2b_` and `b2a_`: `ece`, `confidence` (mean), `accuracy` (all in [0, 1]), `entropy` (nats)
      and `entropy_relative` (of the logarithm of the number of candidates, in [0, 1]), `nll` (nats), `hardest_wrong`
      (mean similarity of the best wrong candidate). For both together: `ece`, `entropy` (means of the two),
      `similarity_true` and `similarity_wrong` (means over pairs), `temperature`. And `bins`: direction -> for every
      bin that is not empty its `low`, `high`, `count`, `confidence`, `accuracy`.

    Raises:
      ValueError: shapes disagree, b_to_a is out of range, or temperature or bins are not positive.

    >>> eye = np.eye(2)
    >>> found = calibration(eye, eye, np.arange(2), temperature=1.0)
    >>> round(found["a2b_confidence"], 3), found["a2b_accuracy"], round(found["ece"], 3)
    (0.731, 1.0, 0.269)
    >>> found["similarity_true"], found["similarity_wrong"]
    (1.0, 0.0)

    Source: Guo et al. (ICML 2017) for the ECE; Modest-Align (Liu et al. 2025) for the question. The paper gives no
    formula for retrieval; we take the whole split as candidates, as in recall.
    """
    found = calibration_at_temperatures(
        za, zb, b_to_a, temperatures=(temperature,), ids_a=ids_a, ids_b=ids_b, bins=bins, block=block
    )
    return found[0]


@renamed_keywords(a_of_b="b_to_a")
def calibration_at_temperatures(
    za: Array,
    zb: Array,
    b_to_a: Array,
    *,
    temperatures: Sequence[float],
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    bins: int = 10,
    block: int = _BLOCK,
) -> list[dict[str, Any]]:
    """`calibration` at several temperatures; similarities are computed once.

    >>> eye = np.eye(2)
    >>> [
    ...     round(found["ece"], 3)
    ...     for found in calibration_at_temperatures(eye, eye, np.arange(2), temperatures=(0.5, 1.0))
    ... ]
    [0.119, 0.269]
    """
    pairs = _pairs(za, zb, b_to_a, ids_a, ids_b)
    if bins < 1 or not all(temperature > 0 for temperature in temperatures):
        raise ValueError(f"temperature and bins must be positive, got {list(temperatures)} and {bins}")
    true, wrong = _pair_similarities(pairs)
    directions = {direction: _answers(_search(pairs, direction), temperatures, block) for direction in ("a2b", "b2a")}
    results = []
    for k, temperature in enumerate(temperatures):
        found: dict[str, Any] = {"temperature": float(temperature)}
        table = {}
        for direction, answered in directions.items():
            answers = answered[k]
            table[direction] = reliability_bins(answers.confidence, answers.correct, bins=bins)
            found |= {
                f"{direction}_ece": expected_calibration_error(table[direction]),
                f"{direction}_confidence": float(answers.confidence.mean()),
                f"{direction}_accuracy": float(answers.correct.mean()),
                f"{direction}_entropy": float(answers.entropy.mean()),
                f"{direction}_entropy_relative": float(answers.entropy.mean() / max(np.log(answers.candidates), 1e-12)),
                f"{direction}_nll": float(-answers.log_true.mean()),
                f"{direction}_hardest_wrong": float(answers.hardest.mean()),
            }
        results.append(
            {
                "ece": 0.5 * (found["a2b_ece"] + found["b2a_ece"]),
                "entropy": 0.5 * (found["a2b_entropy"] + found["b2a_entropy"]),
                "similarity_true": true,
                "similarity_wrong": wrong,
                **found,
                "bins": table,
            }
        )
    return results


@renamed_keywords(a_of_b="b_to_a")
def fit_temperature(
    za: Array,
    zb: Array,
    b_to_a: Array,
    *,
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    grid: Sequence[float] = GRID,
    most: int = 1000,
    block: int = _BLOCK,
) -> float:
    """The temperature of `grid` with the highest likelihood of the right items, over both directions.

    Fitted on val, it removes a wrong scale; the calibration error that remains is not due to the temperature.

    Args:
      za, zb, b_to_a, ids_a, ids_b: as in `calibration`.
      grid: increasing temperatures.
      most: evenly spaced queries to use in each direction; candidates are all.
      block: entries of the similarity matrix in memory at a time.

    >>> z = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.6, 0.8]])
    >>> 0.002 < fit_temperature(z, z[[0, 1, 3, 2]], np.arange(4)) < 2.0
    True

    Source: temperature scaling, Guo et al. (ICML 2017), section 4.2.
    """
    pairs = _pairs(za, zb, b_to_a, ids_a, ids_b)
    # Half the time of float64; its rounding is far below the spacing of the grid.
    pairs = dataclasses.replace(pairs, za=pairs.za.astype(np.float32), zb=pairs.zb.astype(np.float32))
    searches = [_search(pairs, direction, most=most) for direction in ("a2b", "b2a")]

    def best(temperatures: Sequence[float]) -> int:
        return int(np.sum([_nll(search, temperatures, block) for search in searches], axis=0).argmin())

    # A coarse search, then every temperature around the best.
    middle = _STRIDE * best(grid[::_STRIDE])
    near = grid[max(0, middle - _STRIDE + 1) : middle + _STRIDE]
    return float(near[best(near)])


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """Embeddings of distinct items, za [n, d] and zb [m, d], and the pairs between them, ordered by `a`."""

    za: np.ndarray
    zb: np.ndarray
    a: np.ndarray
    b: np.ndarray


def _pairs(za: Array, zb: Array, b_to_a: Array, ids_a: Array | None, ids_b: Array | None) -> _Pairs:
    a, b = np.asarray(za, np.float64), np.asarray(zb, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"za and zb must have shapes [n, d] and [m, d] with n, m >= 1, got {a.shape} and {b.shape}")
    if np.shape(b_to_a) != (len(b),):
        raise ValueError(f"b_to_a must be {len(b)} integers, got shape {np.shape(b_to_a)}")
    items = metrics.distinct_items(b_to_a, n_a=len(a), ids_a=ids_a, ids_b=ids_b)
    return _Pairs(a[items.rows_a], b[items.rows_b], items.pair_a, items.pair_b)


@dataclasses.dataclass(frozen=True)
class _Search:
    """Queries [q, d] of one direction, candidates [c, d], and the right candidates of every query.

    own, own_starts: [k] columns of right candidates, query after query, and [q + 1] where each query's begin.
    groups: [items] where the candidates of each item begin; None: every candidate is one item.
    group: [c] the item of each candidate.
    """

    queries: np.ndarray
    candidates: np.ndarray
    own: np.ndarray
    own_starts: np.ndarray
    groups: np.ndarray | None
    group: np.ndarray

    @property
    def items(self) -> int:
        return len(self.candidates) if self.groups is None else len(self.groups)


def _search(pairs: _Pairs, direction: str, *, most: int | None = None) -> _Search:
    if direction == "b2a":
        order = np.argsort(pairs.b, kind="stable")
        query, own, candidates, queries = pairs.b[order], pairs.a[order], pairs.za, pairs.zb
        groups, group = None, np.arange(len(candidates))
    else:
        # Captions of one item are adjacent; one of several items is with the first of them.
        first = np.full(len(pairs.zb), len(pairs.za))
        np.minimum.at(first, pairs.b, pairs.a)
        order = np.argsort(first, kind="stable")
        _, groups, group = np.unique(first[order], return_index=True, return_inverse=True)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        query, own, candidates, queries = pairs.a, place[pairs.b], pairs.zb[order], pairs.za
    asked, starts = np.unique(query, return_index=True)
    if most is not None and len(asked) > most:
        chosen = np.linspace(0, len(asked) - 1, most).astype(int)
        counts = np.diff(np.append(starts, len(own)))[chosen]
        begin = np.cumsum(counts) - counts
        own = own[np.repeat(starts[chosen] - begin, counts) + np.arange(counts.sum())]
        asked, starts = asked[chosen], begin
    return _Search(queries[asked], candidates, own, np.append(starts, len(own)), groups, group)


@dataclasses.dataclass(frozen=True)
class _Own:
    """The right candidates of some queries, in the order of the queries.

    row, column: [k], positions in the block of similarities. starts: [q], first position of each query.
    """

    row: np.ndarray
    column: np.ndarray
    starts: np.ndarray


def _own(search: _Search, rows: slice) -> _Own:
    begin, end, _ = rows.indices(len(search.queries))
    starts = search.own_starts[begin : end + 1]
    row = np.repeat(np.arange(end - begin), np.diff(starts))
    return _Own(row, search.own[starts[0] : starts[-1]], starts[:-1] - starts[0])


def _nll(search: _Search, temperatures: Sequence[float], block: int) -> np.ndarray:
    """Mean negative log-probability of the right items for each temperature; similarities are computed once."""
    total = np.zeros(len(temperatures))
    for rows in _blocks(len(search.queries), len(search.candidates), block):
        s = search.queries[rows] @ search.candidates.T
        own = _own(search, rows)
        s -= s.max(axis=1, keepdims=True)
        right, work = s[own.row, own.column], np.empty_like(s)
        for k, temperature in enumerate(temperatures):
            mass = np.exp(np.multiply(s, s.dtype.type(1 / temperature), out=work), out=work).sum(axis=1)
            total[k] += (np.log(mass) - _log_mass_of_groups(right / temperature, own.starts)).sum(dtype=np.float64)
    return total / len(search.queries)


def _log_mass_of_groups(z: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exp over groups of a vector that begin at `starts`, stable where they underflow."""
    top = np.maximum.reduceat(z, starts)
    counts = np.diff(np.append(starts, len(z)))
    return np.log(np.add.reduceat(np.exp(z - np.repeat(top, counts)), starts)) + top


@renamed_keywords(a_of_b="b_to_a")
def answer_queries(
    za: Array, zb: Array, b_to_a: Array, direction: str, *, temperature: float, block: int = _BLOCK
) -> QueryAnswers:
    """The answers to all queries of one direction; a-items without a b-item are no queries.

    Args:
      za, zb, b_to_a: as in `calibration`.
      direction: "a2b" or "b2a".
      temperature: positive.
      block: entries of the similarity matrix in memory at a time.
    """
    return _answers(_search(_pairs(za, zb, b_to_a, None, None), direction), (temperature,), block)[0]


def _answers(search: _Search, temperatures: Sequence[float], block: int) -> list[QueryAnswers]:
    """The answers to all queries of one direction, at several temperatures."""
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in temperatures]
    for rows in _blocks(len(search.queries), len(search.candidates), block):
        s, own = search.queries[rows] @ search.candidates.T, _own(search, rows)
        each = np.arange(len(s))
        first, top = s.argmax(axis=1), s.max(axis=1)
        mine = s[own.row, own.column]
        others = s.copy()
        others[own.row, own.column] = -np.inf
        hardest, first_is_own = others.max(axis=1), np.isneginf(others[each, first])
        # A tie with a wrong item is a wrong answer, as in the recalls.
        correct = np.maximum.reduceat(mine, own.starts) > hardest
        s -= top[:, None]
        mine = mine - top[own.row]
        mass = others  # reuses the buffer
        for k, temperature in enumerate(temperatures):
            np.exp(np.divide(s, temperature, out=mass), out=mass)
            mass /= (total := mass.sum(axis=1))[:, None]
            right = np.add.reduceat(mass[own.row, own.column], own.starts)
            # The right candidates are one answer; the others are grouped by their item.
            mass[own.row, own.column] = 0.0
            by_item = mass if search.groups is None else np.add.reduceat(mass, search.groups, axis=1)
            confidence = np.where(first_is_own, right, by_item[each, search.group[first]])
            log_true = _log_mass_of_groups(mine / temperature, own.starts) - np.log(total)
            safe, safe_right = np.where(by_item > 0, by_item, 1.0), np.where(right > 0, right, 1.0)
            entropy = -np.einsum("ij,ij->i", safe, np.log(safe)) - safe_right * np.log(safe_right)
            parts[k].append((confidence, correct, entropy, log_true, hardest))
    found = []
    for part in parts:
        confidence, correct, entropy, log_true, hardest = (np.concatenate(column) for column in zip(*part, strict=True))
        if not np.isfinite(hardest).all():  # a single item has no wrong candidate
            hardest = np.full_like(hardest, np.nan)
        found.append(QueryAnswers(confidence, correct, entropy, log_true, hardest, search.items))
    return found


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 10) -> list[dict[str, float]]:
    """Bins of queries by confidence, with the share of right answers in each.

    Args:
      confidence: [q] in [0, 1].
      correct: bool [q].
      bins: equally wide intervals (low, high]; 0 belongs to the first.

    Returns:
      For every bin with a query: `low`, `high`, `count`, and the means `confidence` and `accuracy`.

    >>> reliability_bins(np.array([0.15, 0.9, 0.95]), np.array([False, True, False]), bins=2)[1]["accuracy"]
    0.5
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "low": k / bins,
            "high": (k + 1) / bins,
            "count": int((number == k).sum()),
            "confidence": float(confidence[number == k].mean()),
            "accuracy": float(correct[number == k].mean()),
        }
        for k in np.unique(number).tolist()
    ]


def expected_calibration_error(table: Sequence[dict[str, float]]) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability_bins`, weighted by their queries.

    >>> expected_calibration_error([{"count": 2, "confidence": 0.9, "accuracy": 0.5}])
    0.4
    """
    total = sum(row["count"] for row in table)
    return float(sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in table) / total)


@renamed_keywords(a_of_b="b_to_a")
def pair_similarities(
    za: Array, zb: Array, b_to_a: Array, *, ids_a: Array | None = None, ids_b: Array | None = None
) -> tuple[float, float]:
    """Mean similarity of true pairs and of all other pairs; NaN where there are none.

    Args:
      za, zb, b_to_a, ids_a, ids_b: as in `calibration`.

    >>> pair_similarities(np.eye(2), np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
    (0.75, 0.25)
    """
    return _pair_similarities(_pairs(za, zb, b_to_a, ids_a, ids_b))


def _pair_similarities(pairs: _Pairs) -> tuple[float, float]:
    a, b = pairs.za, pairs.zb
    true = float(np.einsum("jd,jd->", a[pairs.a], b[pairs.b]))
    others = len(a) * len(b) - len(pairs.a)
    # The sum of all similarities is a product of two sums: no matrix needed.
    wrong = (float(a.sum(axis=0) @ b.sum(axis=0)) - true) / others if others else float("nan")
    return true / len(pairs.a), wrong


def _blocks(queries: int, candidates: int, block: int) -> Iterator[slice]:
    size = max(1, block // candidates)
    return (slice(begin, begin + size) for begin in range(0, queries, size))
