"""Recall of a random ranking, the reference for every retrieval result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.distinct_items import distinct_items


@renamed_keywords(a_of_b="b_to_a")
def chance_recall(
    b_to_a: np.ndarray,
    *,
    n_a: int | None = None,
    ids_a: np.ndarray | None = None,
    ids_b: np.ndarray | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """Expected recall of a random ranking, in percent.

    A query with r right answers among M candidates misses all of them with probability C(M - r, k) / C(M, k).

    Args:
      b_to_a: int [m], the a-item that each b-item belongs to.
      n_a: number of a-items; None when every a-item has a b-item.
      ids_a, ids_b: int [n_a] and [m], equal for rows of the same content, which are one item; None: all rows differ.
      ks: depths of the recall.

    Returns:
      The keys of `alignment_jax.metrics.retrieval_recall`, `rsum` included.

    Raises:
      ValueError: `b_to_a` is empty or not one-dimensional.

    >>> {name: round(value, 2) for name, value in chance_recall(np.repeat(np.arange(100), 5), ks=(1, 10)).items()}
    {'a2b_R@1': 1.0, 'a2b_R@10': 9.65, 'b2a_R@1': 1.0, 'b2a_R@10': 10.0, 'rsum': 21.65}
    """
    owners = np.asarray(b_to_a)
    if owners.ndim != 1 or owners.size == 0:
        raise ValueError(f"b_to_a must be a list of at least one index, got shape {owners.shape}")
    count = max(n_a or 0, int(owners.max()) + 1)
    items = distinct_items(owners, n_a=count, ids_a=ids_a, ids_b=ids_b)
    levels = _direction("a2b", items.pair_a, len(items.rows_b), ks)
    levels |= _direction("b2a", items.pair_b, len(items.rows_a), ks)
    return {**levels, "rsum": sum(levels.values())}


def _direction(name: str, query_of_pair: np.ndarray, candidates: int, ks: Sequence[int]) -> dict[str, float]:
    right = np.bincount(query_of_pair)
    own, queries = np.unique(right[right > 0], return_counts=True)
    levels = {}
    for k in ks:
        drawn = np.arange(min(k, candidates))
        missed = np.prod(np.clip(candidates - own[:, None] - drawn, 0, None) / (candidates - drawn), axis=1)
        levels[f"{name}_R@{k}"] = float(100 * np.average(1 - missed, weights=queries))
    return levels
