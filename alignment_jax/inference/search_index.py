"""Vectors of one side of a run, searched by inner products with a query."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alignment_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Hit:
    """A found item.

    Attributes:
      row: of the index.
      name: file name, id or text.
      score: cosine; with a correction of hubs the cosine less the bias of the item.
      caption: a text of the item; "" for none.
    """

    row: int
    name: str
    score: float
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class SearchIndex:
    """Embedded items to search. `inference.open_index` makes it from files.

    Attributes:
      side: of the items, "a" or "b".
      vectors: float32 [n, d], rows of length one.
      names: n file names, ids or texts.
      captions: n texts, "" for none; None for none at all.
      bias: float32 [n], hubness of each item for queries of the other side (`evals.fold_side`); None for none.
      correction: the name of the correction that made `bias`.
      pictures: rows -> pixels of the items that have any; None without pictures.
      origin: where the items come from.
    """

    side: str
    vectors: np.ndarray
    names: Sequence[str]
    captions: Sequence[str] | None = None
    bias: np.ndarray | None = None
    correction: str = ""
    pictures: Callable[[Sequence[int]], Mapping[int, np.ndarray]] | None = None
    origin: str = ""

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, query: np.ndarray, *, side: str, top: int = 10) -> list[Hit]:
        """The items that are most similar to a query, best first; equal scores in the order of the items.

        The bias corrects scores of queries of the other side. It is not used for a query of the same side.

        Args:
          query: [d], of length one.
          side: of the query, "a" or "b".
          top: at most this many.

        Raises:
          UserError: the query has another width, or `top` is below one.

        >>> index = SearchIndex("a", np.eye(3, dtype=np.float32), ["x", "y", "z"])
        >>> [hit.name for hit in index.search(np.array([0.6, 0.8, 0.0]), side="b", top=2)]
        ['y', 'x']
        """
        if np.shape(query) != self.vectors.shape[1:]:
            raise UserError(f"the query has shape {np.shape(query)}, but the items have {self.vectors.shape[1:]}")
        if top < 1:
            raise UserError(f"top must be at least 1, got {top}")
        # For one query a BLAS starts threads that cost more than the product, and rounds equal rows differently.
        scores = np.einsum("nd,d->n", self.vectors, np.asarray(query, np.float32))
        if self.bias is not None and side != self.side:
            scores = scores - self.bias
        captions = self.captions
        return [
            Hit(row, str(self.names[row]), float(scores[row]), "" if captions is None else str(captions[row]))
            for row in best_rows(scores, top).tolist()
        ]


def best_rows(scores: np.ndarray, top: int) -> np.ndarray:
    """The rows of the `top` largest scores, largest first; equal scores in the order of the rows.

    >>> best_rows(np.array([1.0, 3.0, 2.0, 3.0]), 3).tolist()
    [1, 3, 2]
    """
    if top >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - top)[len(scores) - top]
    rows = np.flatnonzero(scores >= least)
    return rows[np.argsort(-scores[rows], kind="stable")][:top]
