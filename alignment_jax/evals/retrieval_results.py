"""Retrieval in both directions on one split: metrics, and the best items for sampled captions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from alignment_jax import metrics
from alignment_jax.core.deprecation import renamed_attributes


@renamed_attributes({"same_a": "ids_a", "same_b": "ids_b"})
@dataclasses.dataclass(frozen=True)
class SplitEmbeddings:
    """Both sides of one split: `a` [n, d], `b` [m, d], and `b_to_a` [m], the a-item of every b-item.

    `ids_a` [n] and `ids_b` [m] are equal for rows of the same content, which are one item; None: all rows differ.
    `devices` share the work of the ranks, see `metrics.retrieval_ranks`; None: one device.
    """

    a: np.ndarray
    b: np.ndarray
    b_to_a: np.ndarray
    ids_a: np.ndarray | None = None
    ids_b: np.ndarray | None = None
    devices: tuple[jax.Device, ...] | None = None

    @functools.cached_property
    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """`metrics.retrieval_ranks` of the split, computed once."""
        rank_ab, rank_ba = metrics.retrieval_ranks(
            self.a, self.b, self.b_to_a, ids_a=self.ids_a, ids_b=self.ids_b, devices=self.devices
        )
        return np.asarray(rank_ab), np.asarray(rank_ba)

    @functools.cached_property
    def items(self) -> metrics.DistinctItems:
        """The distinct items and their pairs."""
        return metrics.distinct_items(self.b_to_a, n_a=len(self.a), ids_a=self.ids_a, ids_b=self.ids_b)

    @functools.cached_property
    def owner(self) -> np.ndarray:
        """int64 [m], the a-row of every b-row, the first where several have the same content."""
        return self.items.rows_a[self.items.item_a[self.b_to_a]]

    def best_a(self, rows_b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The a-rows [q, k] of the k items that are most similar to each of these b-rows, and which are right, bool."""
        items = self.items
        _, found = metrics.top_k(self.b[rows_b], self.a[items.rows_a], k=min(k, len(items.rows_a)))
        top = np.asarray(found)
        return items.rows_a[top], items.belong(top, items.item_b[rows_b][:, None])


def shares_ranks(b_to_a: np.ndarray, *, devices: Sequence[jax.Device]) -> bool:
    """Whether the ranks of a split are faster on these devices than on one, see `metrics.shares_ranks`.

    >>> shares_ranks(np.arange(100), devices=jax.devices())
    False
    """
    return metrics.shares_ranks(int(b_to_a.max()) + 1, len(b_to_a), devices=len(devices))


def recall_metrics(embedded: SplitEmbeddings, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """`metrics.retrieval_recall` of a split, as plain floats in %.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> recall_metrics(SplitEmbeddings(eye, eye, np.arange(3)), ks=(1,))
    {'a2b_R@1': 100.0, 'b2a_R@1': 100.0, 'rsum': 200.0}
    """
    return {key: float(value) for key, value in metrics.recall_from_ranks(*embedded.ranks, ks=ks).items()}


def multi_instance_metrics(
    embedded: SplitEmbeddings, candidates: np.ndarray, relevancy: np.ndarray
) -> dict[str, float]:
    """`metrics.multi_instance` of a split, as plain floats (fractions).

    Rows of equal content are one query and one candidate, as relevant as the most relevant of them.

    Args:
      embedded: n a-items and m b-items.
      candidates: int [k], the b-items used as queries and candidates.
      relevancy: [n, k] in [0, 1].

    >>> eye = np.eye(3, dtype=np.float32)
    >>> multi_instance_metrics(SplitEmbeddings(eye, eye, np.arange(3)), np.array([0, 2]), eye[:, [0, 2]])["mAP"]
    1.0
    """
    embedded_a, embedded_b, answers = embedded.a, embedded.b[candidates], np.asarray(relevancy)
    if embedded.ids_b is not None:
        embedded_b, answers = _merged(embedded_b, answers.T, embedded.ids_b[candidates])
        answers = answers.T
    if embedded.ids_a is not None:
        embedded_a, answers = _merged(embedded_a, answers, embedded.ids_a)
    found = metrics.multi_instance(embedded_a @ embedded_b.T, answers)
    return {name: float(value) for name, value in found.items()}


def _merged(z: np.ndarray, relevancy: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of equal content as one: the first embedding, and of relevancy [rows, others] the largest."""
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    if len(first) == len(same):
        return z, relevancy
    merged = np.zeros((len(first), relevancy.shape[1]), relevancy.dtype)
    np.maximum.at(merged, inverse.reshape(-1), relevancy)
    return z[first], merged


@dataclasses.dataclass(frozen=True)
class SampledRetrievals:
    """Queries from b with their best a-items, as row numbers.

    queries: [q]. top: [q, k]. right: bool [q, k], whether the query belongs to the item. own: [q], the first right
    item of `top`, else the item of the query.
    """

    queries: np.ndarray
    top: np.ndarray
    right: np.ndarray
    own: np.ndarray


def sample_retrievals(embedded: SplitEmbeddings, *, count: int, k: int = 5, seed: int = 0) -> SampledRetrievals:
    """The k best a-items of `count` b-items, drawn without replacement and from distinct a-items where possible.

    Rows of equal content count once.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> sample_retrievals(SplitEmbeddings(eye, eye, np.arange(3)), count=3, k=1).top.ravel().tolist()
    [0, 1, 2]
    """
    rng = np.random.default_rng(seed)
    order = embedded.items.rows_b[rng.permutation(len(embedded.items.rows_b))]
    _, first = np.unique(embedded.owner[order], return_index=True)
    distinct = np.concatenate([order[np.sort(first)], np.delete(order, first)])
    queries = np.sort(distinct[:count])
    top, right = embedded.best_a(queries, k)
    shown = np.take_along_axis(top, right.argmax(axis=1)[:, None], axis=1)[:, 0]
    own = np.where(right.any(axis=1), shown, embedded.owner[queries])
    return SampledRetrievals(queries=queries, top=top, right=right, own=own)
