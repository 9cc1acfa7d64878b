"""Contribution of each test item to a metric; a run keeps them, so that a comparison can resample the items."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from alignment_jax.compare.paired_differences import ItemScores

_RECALL = re.compile(r"(a2b|b2a)_R@(\d+)")
_RSUM = tuple(f"{way}_R@{k}" for way in ("a2b", "b2a") for k in (1, 5, 10))

Arrays = Mapping[str, np.ndarray]


def retrieval_items(
    rank_ab: np.ndarray,
    rank_ba: np.ndarray,
    b_to_a: np.ndarray,
    *,
    corrected: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays that a retrieval run keeps: the rank of each query's match, and the a-item of each b-item.

    Args:
      rank_ab, rank_ba: [n] and [m], zero-based, from `metrics.retrieval_ranks`; negative where a row is not a query.
      b_to_a: [m], the a-item that each b-item belongs to, the first of those with equal content.
      corrected: the ranks of both directions by corrected scores; None without a correction of hubs.
    """
    arrays = {"rank_ab": rank_ab, "rank_ba": rank_ba, "b_to_a": b_to_a}
    if corrected is not None:
        arrays |= {f"{_CORRECTED}rank_ab": corrected[0], f"{_CORRECTED}rank_ba": corrected[1]}
    return {name: np.asarray(array, np.int32) for name, array in arrays.items()}


_CORRECTED = "corrected/"  # prefix of metrics and arrays


def item_scores(metric: str, arrays: Arrays) -> ItemScores | None:
    """Each item's contribution to a metric, in %; None where the arrays do not give it (mAP and nDCG of a retrieval).

    Args:
      metric: "rsum", "a2b_R@1" and the like, the same after "corrected/"; or, of a classifier, "accuracy",
        "accuracy_a" and the like (over the samples with that modality), "macro_f1", "mAP", "mAP_occurring", "gain_a"
        (the prediction minus the head of a, over the samples with a), "chance_a" (always the most frequent class).
      arrays: of `retrieval_items` or `evals.head_items`.

    >>> kept = retrieval_items(np.array([0, 7]), np.array([0, 3, 12]), np.array([0, 0, 1]))
    >>> found = item_scores("b2a_R@5", kept)
    >>> found.value.tolist(), found.count.tolist()
    ([[200.0, 0.0]], [[2.0, 1.0]])
    """
    if "correct" in arrays:
        return _of_classifier(metric, arrays)
    if metric.startswith(_CORRECTED):
        own = {name.removeprefix(_CORRECTED): x for name, x in arrays.items() if name.startswith(_CORRECTED)}
        return item_scores(metric.removeprefix(_CORRECTED), {**arrays, **own}) if own else None
    names = _RSUM if metric == "rsum" else (metric,)
    matches = [_RECALL.fullmatch(name) for name in names]
    if "rank_ab" not in arrays or not all(matches):
        return None
    parts = [_part(arrays, match[1], int(match[2])) for match in matches if match]
    return ItemScores(np.stack([value for value, _ in parts]), np.stack([count for _, count in parts]))


def _of_classifier(metric: str, arrays: Arrays) -> ItemScores | None:
    kind, _, head = metric.rpartition("_")
    count = np.asarray(arrays.get(f"has_{head}", np.ones(len(arrays["correct"]))), np.float64)
    correct = 100.0 * np.asarray(arrays["correct"])
    if metric == "accuracy":
        value = correct
    elif metric in ("macro_f1", "mAP", "mAP_occurring") and metric in arrays:
        value = np.asarray(arrays[metric], np.float64)
    elif f"correct_{head}" not in arrays or kind not in ("accuracy", "gain", "chance") or not count.any():
        return None
    elif kind == "chance":
        label = arrays["label"]
        value = 100.0 * (label == np.bincount(label, weights=count).argmax())
    else:
        own = 100.0 * np.asarray(arrays[f"correct_{head}"])
        value = own if kind == "accuracy" else correct - own
    return ItemScores((count * value)[None], count[None])


def _part(arrays: Arrays, way: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits in % and number of queries of every a-item: its own query (a2b), or those of its b-items (b2a)."""
    if way == "a2b":
        rank = np.asarray(arrays["rank_ab"])
        counts = rank >= 0  # an a-item without any b is not a query
        return 100.0 * (counts & (rank < k)), counts.astype(np.float64)
    owner, n = arrays["b_to_a"], len(arrays["rank_ab"])
    rank = np.asarray(arrays["rank_ba"])
    counts = rank >= 0  # a row that repeats an earlier one is not a query
    hits = np.bincount(owner, weights=counts & (rank < k), minlength=n)
    return 100.0 * hits, np.bincount(owner, weights=counts, minlength=n)
