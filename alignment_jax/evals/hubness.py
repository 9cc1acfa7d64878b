"""Hubness of a split, and its retrieval with corrected scores.

A candidate's bias is measured on a bank of training queries, never on the queries of the split. Subtracting a number
from all scores of one query changes no ranking, so one pair of folded vectors serves both directions:

    [a, -bias_a, 1] · [b, 1, -bias_b] = a · b - bias_a - bias_b
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from alignment_jax import retrieval
from alignment_jax.core.types import CORRECTED
from alignment_jax.evals.retrieval_results import SplitEmbeddings, recall_metrics
from alignment_jax.retrieval import HubnessCorrection

NEIGHBOURS = 10  # of the k-occurrence
# Tried on val, the weakest first: of equal results the first is chosen. Strength 0.75 won on 100 items of val and lost
# on test (benchmarks/results/hubness.md).
GRID = tuple(HubnessCorrection("nnn", k=k, strength=strength) for strength in (0.25, 0.5) for k in (16, 64))


@dataclasses.dataclass(frozen=True)
class QueryBank:
    """Embeddings of training items, used as queries: `a` [p, d] and `b` [q, d], of any rows, not in pairs."""

    a: np.ndarray
    b: np.ndarray


def fold_side(side: str, z: np.ndarray, bank: QueryBank, correction: HubnessCorrection) -> np.ndarray:
    """The vectors of one side for an inner-product index: [z, -bias, 1] for side a, [z, 1, -bias] for side b.

    Args:
      side: "a" or "b", the side of the items.
      z: [n, d] embeddings.
      bank: its other side holds the queries.
      correction: how the bias is computed.

    Returns:
      float32 [n, d + 2], of no particular length: a cosine index would give another ranking. Bitwise equal rows stay
      equal, so that ties stay ties.

    >>> bank = QueryBank(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[:1])
    >>> fold_side("a", np.eye(2, dtype=np.float32), bank, HubnessCorrection("nnn", k=1, strength=0.5)).tolist()
    [[1.0, 0.0, -0.5, 1.0], [0.0, 1.0, -0.0, 1.0]]
    """
    if side not in ("a", "b"):
        raise ValueError(f"side must be 'a' or 'b', got {side!r}")
    z = np.ascontiguousarray(z, np.float32)
    bias = np.asarray(correction.bias(z, bank.b if side == "a" else bank.a))
    # The rounding of a row may depend on its place in a tile.
    rows = (z + 0.0).view(np.dtype((np.void, z.strides[0]))).reshape(-1)  # + 0.0: -0.0 and 0.0 are equal
    _, first, row = np.unique(rows, return_index=True, return_inverse=True)
    bias, one = bias[first][row.reshape(-1)][:, None], np.ones((len(z), 1), np.float32)
    return np.concatenate([z, -bias, one] if side == "a" else [z, one, -bias], axis=1)


def fold_embeddings(embedded: SplitEmbeddings, bank: QueryBank, correction: HubnessCorrection) -> SplitEmbeddings:
    """The split with folded vectors: every retrieval metric of it is that of the corrected scores, in both directions.

    Its rows have no unit length. Use it for rankings, not for calibration or collapse.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> embedded = SplitEmbeddings(eye, eye, np.arange(3))
    >>> fold_embeddings(embedded, QueryBank(eye, eye), HubnessCorrection("csls", k=2)).b.shape
    (3, 5)
    """
    a, b = (fold_side(side, getattr(embedded, side), bank, correction) for side in ("a", "b"))
    return dataclasses.replace(embedded, a=a, b=b)


def hubness_metrics(embedded: SplitEmbeddings, *, k: int = NEIGHBOURS) -> dict[str, float]:
    """Skewness of the k-occurrence of both directions: how unevenly the queries' k nearest candidates are distributed.

    `a2b_skewness`: queries a, candidates b. Rows of equal content are one item.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> hubness_metrics(SplitEmbeddings(eye, eye, np.arange(3)), k=1)
    {'a2b_skewness': 0.0, 'b2a_skewness': 0.0}

    Source: `retrieval.skewness`.
    """
    items = embedded.items
    a, b = embedded.a[items.rows_a], embedded.b[items.rows_b]
    return {
        f"{way}_skewness": float(_skewness(retrieval.k_occurrence(*sides, k=k, devices=embedded.devices)))
        for way, sides in (("a2b", (a, b)), ("b2a", (b, a)))
    }


_skewness = jax.jit(retrieval.skewness)


def metrics_with_hubness(
    measure: Callable[[SplitEmbeddings], Mapping[str, float]],
    embedded: SplitEmbeddings,
    folded: SplitEmbeddings | None = None,
) -> dict[str, float]:
    """The metrics of a split and its hubness, and again with corrected scores.

    Args:
      measure: the metrics of a split from its embeddings.
      embedded: the split.
      folded: the same from `fold_embeddings`; None without a correction.

    Returns:
      The keys of `measure` and `hubness_metrics`; the corrected ones have the same keys after "corrected/".

    >>> eye = np.eye(3, dtype=np.float32)
    >>> embedded = SplitEmbeddings(eye, eye, np.arange(3))
    >>> folded = fold_embeddings(embedded, QueryBank(eye, eye), HubnessCorrection("nnn"))
    >>> found = metrics_with_hubness(recall_metrics, embedded, folded)
    >>> found["rsum"], found["corrected/rsum"]
    (600.0, 600.0)
    """
    found = {**measure(embedded), **hubness_metrics(embedded)}
    if folded is None:
        return found
    return found | {f"{CORRECTED}{key}": value for key, value in metrics_with_hubness(measure, folded).items()}


def choose_correction(
    embedded: SplitEmbeddings,
    bank: QueryBank,
    *,
    candidates: Iterable[HubnessCorrection] = GRID,
    score: Callable[[SplitEmbeddings], float] = lambda embedded: recall_metrics(embedded)["rsum"],
) -> tuple[HubnessCorrection, float, float]:
    """The correction with the best score on held-out pairs, "none" where no candidate is better.

    Args:
      embedded: pairs that neither trained the model nor judge it.
      bank: training queries.
      candidates: to try; of equal scores the first is chosen.
      score: larger is better.

    Returns:
      The correction, its score, and the score without any.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> choose_correction(SplitEmbeddings(eye, eye, np.arange(3)), QueryBank(eye, eye))
    (HubnessCorrection(name='none', k=None, strength=None, temperature=None), 600.0, 600.0)
    """
    plain = score(embedded)
    best, highest = HubnessCorrection(), plain
    for one in candidates:
        value = score(fold_embeddings(embedded, bank, one))
        if value > highest:
            best, highest = one, value
    return best, highest, plain
