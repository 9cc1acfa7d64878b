"""How far the probabilities of the retrieval softmax can be believed, and how far apart true and wrong pairs lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.types import Array

# Numbers of one block of the similarity matrix: 64 MiB in float64.
_BLOCK = 1 << 23
# Temperatures that `fit_temperature` tries: a factor of about 1.1 apart.
GRID: tuple[float, ...] = tuple(float(t) for t in np.geomspace(0.002, 2.0, 73))

_STRIDE = 8


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model answers to each query of one direction.

    confidence [q] in [0, 1]: probability mass of the item it ranks first; correct bool [q]; entropy [q] in nats;
    log_true [q]: log-probability of the right item; hardest [q]: similarity of the best wrong candidate.
    """

    confidence: np.ndarray
    correct: np.ndarray
    entropy: np.ndarray
    log_true: np.ndarray
    hardest: np.ndarray
    candidates: int


def calibration(
    za: Array, zb: Array, a_of_b: Array, *, temperature: float, bins: int = 10, block: int = _BLOCK
) -> dict[str, Any]:
    """Expected calibration error and entropy of the retrieval softmax, and the similarity of true and wrong pairs.

    p_i = softmax_j(S_ij / temperature), S = za zbT.  A query's answer is the item it ranks first, its confidence that
    item's probability. ECE = sum over bins of (share of the queries) * |mean confidence - share of right answers|.
    An item with several captions has the sum of their probabilities, and its captions are no rivals of each other.

    Args:
      za: [n, d] embeddings, used as they are.
      zb: [m, d] embeddings, any number for each a-item.
      a_of_b: [m] integers, the a-item that each b-item belongs to.
      temperature: positive; the one that the model was trained with, or one of `fit_temperature`.
      bins: equally wide intervals of confidence.
      block: numbers of the similarity matrix that are in memory at a time.

    Returns:
      For both directions `a2b_` and `b2a_`: `ece`, `confidence` (mean), `accuracy` (all in [0, 1]), `entropy` (nats)
      and `entropy_relative` (of the logarithm of the number of candidates, in [0, 1]), `nll` (nats), `hardest_wrong`
      (mean similarity of the best wrong candidate). For both together: `ece`, `entropy` (means of the two),
      `similarity_true` and `similarity_wrong` (means over pairs), `temperature`. And `bins`: direction -> for every
      bin that is not empty its `low`, `high`, `count`, `confidence`, `accuracy`.

    Raises:
      ValueError: shapes disagree, a_of_b is out of range, or temperature or bins are not positive.

    >>> eye = np.eye(2)
    >>> found = calibration(eye, eye, np.arange(2), temperature=1.0)
    >>> round(found["a2b_confidence"], 3), found["a2b_accuracy"], round(found["ece"], 3)
    (0.731, 1.0, 0.269)
    >>> found["similarity_true"], found["similarity_wrong"]
    (1.0, 0.0)

    Source: Guo et al. (ICML 2017) for the ECE; Modest-Align (Liu et al. 2025) for the question. The paper gives no
    formula for retrieval; that a query's candidates are the whole split, as in recall, is our reading.
    """
    return calibrations(za, zb, a_of_b, temperatures=(temperature,), bins=bins, block=block)[0]


def calibrations(
    za: Array, zb: Array, a_of_b: Array, *, temperatures: Sequence[float], bins: int = 10, block: int = _BLOCK
) -> list[dict[str, Any]]:
    """`calibration` at several temperatures: the similarities are made once for all of them.

    >>> eye = np.eye(2)
    >>> [round(found["ece"], 3) for found in calibrations(eye, eye, np.arange(2), temperatures=(0.5, 1.0))]
    [0.119, 0.269]
    """
    a, b, owner = _checked(za, zb, a_of_b)
    if bins < 1 or not all(temperature > 0 for temperature in temperatures):
        raise ValueError(f"temperature and bins must be positive, got {list(temperatures)} and {bins}")
    true, wrong = pair_similarities(a, b, owner)
    directions = {
        direction: _answers(_search(a, b, owner, direction), temperatures, block) for direction in ("a2b", "b2a")
    }
    results = []
    for k, temperature in enumerate(temperatures):
        found: dict[str, Any] = {"temperature": float(temperature)}
        table = {}
        for direction, answered in directions.items():
            answers = answered[k]
            table[direction] = reliability(answers.confidence, answers.correct, bins=bins)
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


def fit_temperature(
    za: Array, zb: Array, a_of_b: Array, *, grid: Sequence[float] = GRID, most: int = 1000, block: int = _BLOCK
) -> float:
    """The temperature of `grid` under which the right items are most probable, both directions together.

    A model can be wrong in its ranking or only too sure of it; what calibration error is left at this temperature,
    fitted on val, is not for the want of a single number.

    Args:
      za, zb, a_of_b: as in `calibration`.
      grid: growing temperatures to choose from.
      most: queries of each direction, evenly spread, that are looked at; candidates are all.
      block: numbers of the similarity matrix that are in memory at a time.

    >>> z = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.6, 0.8]])
    >>> 0.002 < fit_temperature(z, z[[0, 1, 3, 2]], np.arange(4)) < 2.0
    True

    Source: temperature scaling, Guo et al. (ICML 2017), section 4.2.
    """
    a, b, owner = _checked(za, zb, a_of_b)
    # Half the time of float64; temperatures of the grid lie much further apart than it rounds.
    a, b = a.astype(np.float32), b.astype(np.float32)
    searches = [_search(a, b, owner, direction, most=most) for direction in ("a2b", "b2a")]

    def best(temperatures: Sequence[float]) -> int:
        return int(np.sum([_nll(search, temperatures, block) for search in searches], axis=0).argmin())

    # Coarsely over the whole grid, then every temperature around the best.
    middle = _STRIDE * best(grid[::_STRIDE])
    near = grid[max(0, middle - _STRIDE + 1) : middle + _STRIDE]
    return float(near[best(near)])


@dataclasses.dataclass(frozen=True)
class _Search:
    """Queries [q, d] of one direction, candidates [c, d], the item of each candidate, and each query's right item.

    starts: [items + 1] where the candidates of each item begin, and their number; None where every candidate is an item
      of its own.
    """

    queries: np.ndarray
    candidates: np.ndarray
    item: np.ndarray
    right: np.ndarray
    starts: np.ndarray | None
    items: int


def _search(za: np.ndarray, zb: np.ndarray, owner: np.ndarray, direction: str, *, most: int | None = None) -> _Search:
    if direction == "b2a":
        queries, candidates, right = zb, za, owner
        item, starts = np.arange(len(za)), None
    else:
        order = np.argsort(owner, kind="stable")
        present, first = np.unique(owner[order], return_index=True)
        queries, candidates, right = za[present], zb[order], np.arange(len(present))
        starts = np.append(first, len(owner))
        item = np.repeat(right, np.diff(starts))
    if most is not None and len(queries) > most:
        chosen = np.linspace(0, len(queries) - 1, most).astype(int)
        queries, right = queries[chosen], right[chosen]
    return _Search(queries, candidates, item, right, starts, len(za) if starts is None else len(starts) - 1)


@dataclasses.dataclass(frozen=True)
class _Own:
    """The right candidates of some queries, query after query.

    row, column: [k], where they are in the block of similarities. starts: [q], where each query's own begin.
    """

    row: np.ndarray
    column: np.ndarray
    starts: np.ndarray


def _own(search: _Search, rows: slice) -> _Own:
    right = search.right[rows]
    if search.starts is None:
        each = np.arange(len(right))
        return _Own(each, right, each)
    counts = np.diff(search.starts)[right]
    starts = np.cumsum(counts) - counts
    row = np.repeat(np.arange(len(right)), counts)
    return _Own(row, np.arange(len(row)) - starts[row] + search.starts[right][row], starts)


def _nll(search: _Search, temperatures: Sequence[float], block: int) -> np.ndarray:
    """Mean negative log-probability of the right items for each temperature; the similarities are made once."""
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


def answer(
    za: np.ndarray, zb: np.ndarray, owner: np.ndarray, direction: str, *, temperature: float, block: int = _BLOCK
) -> Answers:
    """What every query of one direction is answered; a-items without any b-item ask nothing.

    Args:
      za, zb: float64 [n, d], [m, d].
      owner: int [m].
      direction: "a2b" or "b2a".
      temperature: positive.
      block: numbers of the similarity matrix that are in memory at a time.
    """
    return _answers(_search(za, zb, owner, direction), (temperature,), block)[0]


def _answers(search: _Search, temperatures: Sequence[float], block: int) -> list[Answers]:
    """`answer` at several temperatures."""
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in temperatures]
    for rows in _blocks(len(search.queries), len(search.candidates), block):
        s, own, right = search.queries[rows] @ search.candidates.T, _own(search, rows), search.right[rows]
        each = np.arange(len(right))
        top = s.max(axis=1)
        first = search.item[s.argmax(axis=1)]
        mine = s[own.row, own.column]
        others = s.copy()
        others[own.row, own.column] = -np.inf
        hardest = others.max(axis=1)
        # A right answer that ties with a wrong one is no answer, as in the recalls.
        correct = (first == right) & (np.maximum.reduceat(mine, own.starts) > hardest)
        s -= top[:, None]
        mine = mine - top[own.row]
        mass = others  # its buffer, which is not needed any more
        for k, temperature in enumerate(temperatures):
            np.exp(np.divide(s, temperature, out=mass), out=mass)
            mass /= (total := mass.sum(axis=1))[:, None]
            by_item = mass if search.starts is None else np.add.reduceat(mass, search.starts[:-1], axis=1)
            safe = np.where(by_item > 0, by_item, 1.0)
            log_true = _log_mass_of_groups(mine / temperature, own.starts) - np.log(total)
            entropy = -np.einsum("ij,ij->i", safe, np.log(safe))
            parts[k].append((by_item[each, first], correct, entropy, log_true, hardest))
    found = []
    for part in parts:
        confidence, correct, entropy, log_true, hardest = (np.concatenate(column) for column in zip(*part, strict=True))
        if not np.isfinite(hardest).all():  # a single item has no rival
            hardest = np.full_like(hardest, np.nan)
        found.append(Answers(confidence, correct, entropy, log_true, hardest, search.items))
    return found


def reliability(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 10) -> list[dict[str, float]]:
    """Queries grouped by their confidence: how often those in each group were answered rightly.

    Args:
      confidence: [q] in [0, 1].
      correct: bool [q].
      bins: equally wide intervals (low, high]; 0 belongs to the first.

    Returns:
      For every bin that holds a query `low`, `high`, `count`, and the means `confidence` and `accuracy`.

    >>> reliability(np.array([0.15, 0.9, 0.95]), np.array([False, True, False]), bins=2)[1]["accuracy"]
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
    """The mean gap between confidence and accuracy over the bins of `reliability`, each by its share of the queries.

    >>> expected_calibration_error([{"count": 2, "confidence": 0.9, "accuracy": 0.5}])
    0.4
    """
    total = sum(row["count"] for row in table)
    return float(sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in table) / total)


def pair_similarities(za: Array, zb: Array, a_of_b: Array) -> tuple[float, float]:
    """Mean similarity of the pairs that belong together, and of all others; NaN where there are none.

    >>> pair_similarities(np.eye(2), np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
    (0.75, 0.25)
    """
    a, b, owner = _checked(za, zb, a_of_b)
    true = float(np.einsum("jd,jd->", a[owner], b))
    others = len(a) * len(b) - len(b)
    # The sum of all similarities is a product of two sums: no matrix is needed.
    wrong = (float(a.sum(axis=0) @ b.sum(axis=0)) - true) / others if others else float("nan")
    return true / len(b), wrong


def _checked(za: Array, zb: Array, a_of_b: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b, owner = np.asarray(za, np.float64), np.asarray(zb, np.float64), np.asarray(a_of_b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"za and zb must have shapes [n, d] and [m, d] with n, m >= 1, got {a.shape} and {b.shape}")
    if owner.shape != (len(b),) or not np.issubdtype(owner.dtype, np.integer):
        raise ValueError(f"a_of_b must be {len(b)} integers, got shape {owner.shape} of {owner.dtype}")
    if owner.min() < 0 or owner.max() >= len(a):
        raise ValueError(f"a_of_b must be in [0, {len(a)}), got {owner.min()} to {owner.max()}")
    return a, b, owner.astype(np.int64)


def _blocks(queries: int, candidates: int, block: int) -> Iterator[slice]:
    size = max(1, block // candidates)
    return (slice(begin, begin + size) for begin in range(0, queries, size))
