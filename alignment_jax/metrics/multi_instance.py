"""Multi-instance retrieval: every item is relevant to every query to some degree (EPIC-KITCHENS-100)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.metrics._value_checks import namespace, scalar, traced

# Queries sorted at once; bounds the memory of temporaries.
_ROWS = 512


def multi_instance(similarity: Array, relevancy: Array) -> dict[str, Any]:
    """mAP and nDCG of multi-instance retrieval with graded relevancy, both ways.

    Candidates of a query in descending similarity, R_(k) the relevancy at place k, C_k = R_(1) + ... + R_(k):
    AP = sum over places k with R_(k) = 1 of C_k / k, divided by the number of R = 1;
    nDCG = DCG / ideal DCG, DCG = sum over k <= K of R_(k) / log2(k + 1), K the number of R > 0.

    Args:
      similarity: [n, m], rows a, columns b.
      relevancy: [n, m] in [0, 1]; 1 is a full match.

    Returns:
      {"mAP_a2b", "mAP_b2a", "mAP", "nDCG_a2b", "nDCG_b2a", "nDCG"}, fractions; the last of each kind is the mean of
      both directions. Partial matches count in C_k, so AP is at least what the full matches alone would give.

    Raises:
      ValueError: shapes differ, a similarity is NaN, or a relevancy is outside [0, 1].

    >>> scores = multi_instance(np.array([[0.9, 0.1], [0.8, 0.3]]), np.eye(2))
    >>> {key: round(value, 3) for key, value in scores.items() if key.startswith("mAP")}
    {'mAP_a2b': 0.75, 'mAP_b2a': 1.0, 'mAP': 0.875}

    Source: the EPIC-KITCHENS-100 evaluation in the code of MM-TS (Sheludzko et al., WACV 2026); gains are R itself and
    C_k sums graded relevancies, as there. Two deviations: a query without any relevant item (no R = 1 for AP, no R > 0
    for nDCG) is left out of the mean, where the authors' mean becomes NaN (ours does only if no query is left); and
    equal similarities are placed with the least relevant first, where theirs depend on an unstable sort.
    """
    shape = np.shape(similarity)
    if len(shape) != 2 or 0 in shape or np.shape(relevancy) != shape:
        raise ValueError(
            f"similarity and relevancy must have one shape [n, m] with n, m >= 1, got {shape} and {np.shape(relevancy)}"
        )
    xp = namespace(similarity, relevancy)
    known = not traced(similarity, relevancy)
    # Cast first: places and gains have the dtype of the relevancy, which may be integers.
    s, r = (xp.asarray(x).astype(np.float64 if known else np.float32) for x in (similarity, relevancy))
    if known:
        _check(s, r)
    map_ab, ndcg_ab = _direction(s, r, xp)
    map_ba, ndcg_ba = _direction(s.T, r.T, xp)
    return {
        "mAP_a2b": scalar(map_ab),
        "mAP_b2a": scalar(map_ba),
        "mAP": scalar((map_ab + map_ba) / 2),
        "nDCG_a2b": scalar(ndcg_ab),
        "nDCG_b2a": scalar(ndcg_ba),
        "nDCG": scalar((ndcg_ab + ndcg_ba) / 2),
    }


def _check(s: np.ndarray, r: np.ndarray) -> None:
    broken = np.isnan(s)
    if broken.any():
        row, column = np.argwhere(broken)[0]
        raise ValueError(f"similarity[{row}, {column}] is NaN ({broken.sum()} entries are)")
    outside = ~((r >= 0) & (r <= 1))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ValueError(f"relevancy[{row}, {column}] is {r[row, column]}, outside [0, 1]")


def _direction(s: Array, r: Array, xp: ModuleType) -> tuple[Any, Any]:
    """mAP and nDCG of the rows as queries, over those that have an answer."""
    rows = len(s) if traced(s, r) else _ROWS
    blocks = [_queries(s[i : i + rows], r[i : i + rows], xp) for i in range(0, len(s), rows)]
    ap, ndcg, has_full, has_any = (xp.concatenate(column) for column in zip(*blocks, strict=True))
    return _mean(ap, has_full, xp), _mean(ndcg, has_any, xp)


def _queries(s: Array, r: Array, xp: ModuleType) -> tuple[Any, Any, Any, Any]:
    order = xp.lexsort((r, -s), axis=1)
    placed = xp.take_along_axis(r, order, axis=1)
    ideal = -xp.sort(-r, axis=1)
    place = xp.arange(1, r.shape[1] + 1, dtype=r.dtype)

    full = (placed == 1).sum(axis=1)
    precision = xp.where(placed == 1, xp.cumsum(placed, axis=1) / place, 0).sum(axis=1)

    relevant = (r > 0).sum(axis=1)
    gain = xp.where(place <= relevant[:, None], 1 / xp.log2(place + 1), 0)
    dcg, ideal_dcg = (placed * gain).sum(axis=1), (ideal * gain).sum(axis=1)
    # A subnormal relevancy may vanish in the ideal sum; a query with ideal 0 has no answer.
    has_any = ideal_dcg > 0
    ndcg = xp.where(has_any, dcg / xp.where(has_any, ideal_dcg, 1), 0)
    return precision / xp.maximum(full, 1), ndcg, full > 0, has_any


def _mean(values: Array, where: Array, xp: ModuleType) -> Any:
    count = where.sum()
    total = xp.where(where, values, 0).sum()
    return xp.where(count > 0, total / xp.maximum(count, 1), xp.nan)
