"""Retrieval both ways over one split: recalls, and the best images for a sample of captions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from alignment_jax import metrics


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Both sides of one split: `a` [n, d], `b` [m, d], and `b_to_a` [m], the a-item of every b-item."""

    a: np.ndarray
    b: np.ndarray
    b_to_a: np.ndarray

    @functools.cached_property
    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """`metrics.retrieval_ranks` of the split, computed once for all that is made of them."""
        rank_ab, rank_ba = jax.device_get(metrics.retrieval_ranks(self.a, self.b, self.b_to_a))
        return rank_ab, rank_ba


def recall(embedded: Embedded, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """`metrics.retrieval_recall` of a split, as plain floats in %.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> recall(Embedded(eye, eye, np.arange(3)), ks=(1,))
    {'a2b_R@1': 100.0, 'b2a_R@1': 100.0, 'rsum': 200.0}
    """
    return recall_of_ranks(*embedded.ranks, ks=ks)


def recall_of_ranks(rank_ab: np.ndarray, rank_ba: np.ndarray, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """The same from `metrics.retrieval_ranks`.

    >>> recall_of_ranks(np.array([0, 1]), np.array([0, 3]), ks=(1,))
    {'a2b_R@1': 50.0, 'b2a_R@1': 50.0, 'rsum': 100.0}
    """
    found = {f"a2b_{key}": float(value) for key, value in metrics.recall_at(rank_ab, ks=ks).items()}
    found |= {f"b2a_{key}": float(value) for key, value in metrics.recall_at(rank_ba, ks=ks).items()}
    return {**found, "rsum": sum(found.values())}


def multi_instance(embedded: Embedded, candidates: np.ndarray, relevancy: np.ndarray) -> dict[str, float]:
    """`metrics.multi_instance` of a split, as plain floats (fractions).

    Args:
      embedded: n a-items and m b-items.
      candidates: int [k], the b-items that are asked with and for.
      relevancy: [n, k] in [0, 1].

    >>> eye = np.eye(3, dtype=np.float32)
    >>> multi_instance(Embedded(eye, eye, np.arange(3)), np.array([0, 2]), eye[:, [0, 2]])["mAP"]
    1.0
    """
    similarity = embedded.a @ embedded.b[candidates].T
    return {name: float(value) for name, value in metrics.multi_instance(similarity, relevancy).items()}


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Some queries from b with their best a-items: `queries` [q], `top` [q, k], `own` [q], all item numbers."""

    queries: np.ndarray
    top: np.ndarray
    own: np.ndarray


def sample_retrievals(embedded: Embedded, *, count: int, k: int = 5, seed: int = 0) -> Sampled:
    """The k best a-items of `count` b-items drawn without replacement, each of another a-item while there are any.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> sample_retrievals(Embedded(eye, eye, np.arange(3)), count=3, k=1).top.ravel().tolist()
    [0, 1, 2]
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(embedded.b))
    _, first = np.unique(embedded.b_to_a[order], return_index=True)
    distinct = np.concatenate([order[np.sort(first)], np.delete(order, first)])
    queries = np.sort(distinct[:count])
    _, top = metrics.top_k(embedded.b[queries], embedded.a, k=min(k, len(embedded.a)))
    return Sampled(queries=queries, top=np.asarray(top), own=embedded.b_to_a[queries])
