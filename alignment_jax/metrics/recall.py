"""Recall at K of cross-modal retrieval."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.core.types import Array
from alignment_jax.metrics._square_tiles import TILE
from alignment_jax.metrics._value_checks import scalar, traced
from alignment_jax.metrics.ranks import retrieval_ranks


@renamed_keywords(a_of_b="b_to_a")
def retrieval_recall(
    za: Array,
    zb: Array,
    b_to_a: Array,
    *,
    ids_a: Array | None = None,
    ids_b: Array | None = None,
    ks: Sequence[int] = (1, 5, 10),
    tile: int = TILE,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Recall at K both ways: the share of queries whose right answer is among the K most similar items.

    R@K = 100 * mean over queries of [rank < K],  rsum = sum over K and both directions

    Args:
      za: [n, d] embeddings (images, say); similarity = za zbT.
      zb: [m, d] embeddings (captions), any number for each a-item.
      b_to_a: [m] integers, the a-item that each b-item belongs to.
      ids_a: [n] integers, equal where a-rows have the same content: they are one item, one query and one candidate.
        None where all differ.
      ids_b: [m] integers, the same for b-rows.
      ks: the K, positive and distinct.
      tile: side of the tiles of the similarity matrix; one tile is in memory at a time.
      devices: that share the rows of both sides, see `retrieval_ranks`.

    Returns:
      {"a2b_R@1": ..., ..., "b2a_R@1": ..., ..., "rsum": ...} in percent, floats. A query counts its best-placed
      own item; ties between different items count against it; an a-item without any b is no query, only a candidate.

    Raises:
      ValueError: see `retrieval_ranks`; or ks is empty, not positive or has repetitions.

    >>> za = jnp.eye(2)
    >>> zb = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.9, 0.1]])
    >>> recall = retrieval_recall(za, zb, jnp.array([0, 0, 1]), ks=(1, 2))
    >>> recall["a2b_R@1"], recall["a2b_R@2"], round(recall["b2a_R@1"], 1)
    (50.0, 100.0, 33.3)

    Two a-items that share a caption (one text, stored twice) are both right answers to it:

    >>> recall = retrieval_recall(za, jnp.ones((2, 2)), jnp.array([0, 1]), ids_b=jnp.array([7, 7]), ks=(1,))
    >>> recall["a2b_R@1"], recall["b2a_R@1"]
    (100.0, 100.0)

    Source: the Flickr30K and MSCOCO protocol as LAVIS evaluates it. There an unstable sort decides ties; here ties are
    wrong answers, so that a collapsed model scores 0 and not chance. That protocol counts equal captions of two images
    as wrong answers to each other, as this function does without ids.
    """
    cutoffs = _cutoffs(ks)
    rank_ab, rank_ba = retrieval_ranks(za, zb, b_to_a, ids_a=ids_a, ids_b=ids_b, tile=tile, devices=devices)
    return recall_from_ranks(rank_ab, rank_ba, ks=cutoffs)


def recall_from_ranks(rank_ab: Array, rank_ba: Array, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
    """Recall at K both ways and their sum, from the two results of `retrieval_ranks` or subsets of them.

    Args:
      rank_ab, rank_ba: [n] and [m] integers; negative ones (no right answer) are left out.
      ks: the K, positive and distinct.

    Returns:
      As `retrieval_recall`; NaN in a direction without queries.

    >>> recall_from_ranks(np.array([0, 1]), np.array([0, 3]), ks=(1,))
    {'a2b_R@1': 50.0, 'b2a_R@1': 50.0, 'rsum': 100.0}
    """
    out = {f"a2b_{key}": value for key, value in recall_at(rank_ab, ks=ks).items()}
    out |= {f"b2a_{key}": value for key, value in recall_at(rank_ba, ks=ks).items()}
    return {**out, "rsum": sum(out.values())}


def recall_at(ranks: Array, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
    """Recall at K from zero-based ranks, for any subset of the queries.

    Args:
      ranks: [n] integers as `retrieval_ranks` returns them; negative ones (no right answer) are left out.
      ks: the K, positive and distinct.

    Returns:
      {"R@1": ..., ...} in percent; NaN if no query is left.

    Raises:
      ValueError: ks is empty, not positive or has repetitions, or ranks is not a vector.

    >>> recall_at(np.array([0, 3, -1, 12, 0]), ks=(1, 5))
    {'R@1': 50.0, 'R@5': 75.0}
    """
    cutoffs = _cutoffs(ks)
    if np.ndim(ranks) != 1:
        raise ValueError(f"ranks must have shape [n], got {np.shape(ranks)}")
    if traced(ranks):
        queries = jnp.sum(ranks >= 0)
        return {f"R@{k}": 100.0 * jnp.sum((ranks >= 0) & (ranks < k)) / queries for k in cutoffs}
    known = np.asarray(ranks)
    known = known[known >= 0]
    if known.size == 0:
        return {f"R@{k}": float("nan") for k in cutoffs}
    return {f"R@{k}": scalar(100.0 * np.count_nonzero(known < k) / known.size) for k in cutoffs}


def _cutoffs(ks: Sequence[int]) -> list[int]:
    cutoffs = [operator.index(k) for k in ks]
    if not cutoffs or min(cutoffs) < 1 or len(set(cutoffs)) != len(cutoffs):
        raise ValueError(f"ks must be distinct positive integers, got {list(ks)}")
    return cutoffs
