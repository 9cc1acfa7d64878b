"""What guessing at random would score: the number every retrieval result has to be read against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def chance_recall(a_of_b: np.ndarray, *, n_a: int | None = None, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Expected recall of a random ranking, in percent.

    A b-query finds its one a-item among the first k of N with probability k / N. An a-query with m own items among M
    misses all of them with probability C(M - m, k) / C(M, k).

    Args:
      a_of_b: int [M], the a-item that each b-item belongs to.
      n_a: number of a-items N; None when every a-item has a b-item.
      ks: depths of the recall.

    Returns:
      The keys of `alignment_jax.metrics.retrieval_recall`, `rsum` included.

    Raises:
      ValueError: `a_of_b` is empty or not one-dimensional.

    >>> {name: round(value, 2) for name, value in chance_recall(np.repeat(np.arange(100), 5), ks=(1, 10)).items()}
    {'a2b_R@1': 1.0, 'a2b_R@10': 9.65, 'b2a_R@1': 1.0, 'b2a_R@10': 10.0, 'rsum': 21.65}
    """
    owners = np.asarray(a_of_b)
    if owners.ndim != 1 or owners.size == 0:
        raise ValueError(f"a_of_b must be a list of at least one index, got shape {owners.shape}")
    total = owners.size
    counts = np.bincount(owners, minlength=n_a or 0)
    own, items = np.unique(counts[counts > 0], return_counts=True)
    levels = {}
    for k in ks:
        drawn = np.arange(min(k, total))
        missed = np.prod(np.clip(total - own[:, None] - drawn, 0, None) / (total - drawn), axis=1)
        levels[f"a2b_R@{k}"] = float(100 * np.average(1 - missed, weights=items))
    for k in ks:
        levels[f"b2a_R@{k}"] = 100 * min(k / counts.size, 1.0)
    return {**levels, "rsum": sum(levels.values())}
