"""Recall of frequent and of rare content, by cluster size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax import metrics
from alignment_jax.core.types import Array
from alignment_jax.evals.retrieval_results import SplitEmbeddings

BUCKETS = ("head", "middle", "tail")


def size_buckets(sizes: Array, train_sizes: Array) -> tuple[np.ndarray, tuple[float, float]]:
    """Assigns items to head, middle and tail, as near to thirds of the training samples as cluster sizes allow.

    tail: size <= t1,  middle: t1 < size <= t2,  head: size > t2

    Args:
      sizes: [n] size of each item's cluster among the training samples.
      train_sizes: [k] the same for the training samples.

    Returns:
      int [n] number in `BUCKETS`, and (t1, t2). Samples of one size share a bucket: two sizes leave no
      middle, one size is all middle.

    Raises:
      ValueError: train_sizes is empty.

    >>> size_buckets(np.array([1, 5, 9]), np.array([1, 1, 5, 5, 9, 9]))
    (array([2, 1, 0]), (1.0, 5.0))
    """
    x, known = np.asarray(sizes, np.float64), np.asarray(train_sizes, np.float64)
    if known.size == 0:
        raise ValueError("train_sizes is empty; pass the cluster sizes of the training samples")
    values, counts = np.unique(known, return_counts=True)
    if len(values) == 1:
        return np.ones(x.shape, int), (float(values[0]), float(values[0]))
    up_to = np.cumsum(counts) / known.size
    last = int(np.abs(up_to[:-1] - 2 / 3).argmin())
    first = int(np.abs(up_to[:last] - 1 / 3).argmin()) if last else last
    low, high = float(values[first]), float(values[last])
    return np.where(x > high, 0, np.where(x > low, 1, 2)), (low, high)


def long_tail_recall(
    embedded: SplitEmbeddings, sizes_b: Array, train_sizes: Array, *, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, Any]:
    """Recall at K of the queries of each bucket of cluster sizes; candidates are the whole split.

    Args:
      embedded: both sides of a split.
      sizes_b: [m] size of the training cluster that each b-item (caption) falls into.
      train_sizes: [k] cluster sizes of the training samples, which set the borders.
      ks: depths of the recall.

    Returns:
      `head`, `middle`, `tail`: each the keys of `metrics.retrieval_recall` in % (None for a bucket without queries),
      and `queries_a2b`, `queries_b2a`, their numbers; `borders`: [largest size of the tail, of the middle]; and `gap`:
      rsum of head minus rsum of tail. An a-item's size is the mean of its captions'.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> found = long_tail_recall(
    ...     SplitEmbeddings(eye, eye[[0, 2, 1]], np.arange(3)), [9, 5, 1], [1, 1, 5, 5, 9, 9], ks=(1,)
    ... )
    >>> found["head"]["b2a_R@1"], found["tail"]["b2a_R@1"], found["gap"]
    (100.0, 0.0, 200.0)

    Source: the claim of MM-TS (Sheludzko et al., WACV 2026) that temperatures by cluster size serve long-tail data. The
    paper reports no recall by bucket; thirds of the training samples are our reading.
    """
    owner = embedded.owner
    sizes = np.asarray(sizes_b, np.float64)
    if sizes.shape != owner.shape:
        raise ValueError(f"sizes_b must have shape {owner.shape}, one for each b-item, got {sizes.shape}")
    rank_a, rank_b = embedded.ranks
    counts = np.bincount(owner, minlength=len(rank_a))
    sizes_a = np.bincount(owner, weights=sizes, minlength=len(rank_a)) / np.maximum(counts, 1)
    bucket_b, borders = size_buckets(sizes, train_sizes)
    bucket_a, _ = size_buckets(sizes_a, train_sizes)
    found: dict[str, Any] = {}
    for number, name in enumerate(BUCKETS):
        # Negative rank: no query, or a repeated one.
        asked_a, asked_b = rank_a[(bucket_a == number) & (rank_a >= 0)], rank_b[(bucket_b == number) & (rank_b >= 0)]
        scores = metrics.recall_from_ranks(asked_a, asked_b, ks=ks)
        plain = {key: float(value) if np.isfinite(value) else None for key, value in scores.items()}
        found[name] = {**plain, "queries_a2b": len(asked_a), "queries_b2a": len(asked_b)}
    head, tail = found["head"]["rsum"], found["tail"]["rsum"]
    return {**found, "borders": list(borders), "gap": None if None in (head, tail) else head - tail}
