"""Graded relevancy of b-items for a-items, for data where a query has several partly right answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from alignment_jax.core.errors import DataError


class Relevancy(Protocol):
    """Graded relevancy of a split with N a-items and M b-items."""

    def resolve(self) -> tuple[np.ndarray, np.ndarray]:
        """`(candidates int64 [K], relevancy float32 [N, K] in [0, 1])`: the ranked b-items and their relevancy."""

    def subset(self, a: np.ndarray, b: np.ndarray) -> Relevancy:
        """The relevancy of these a-items and b-items, in this order."""


@dataclasses.dataclass(frozen=True)
class RelevancyMatrix:
    """A published relevancy matrix.

    Attributes:
      candidates: int64 [K], the b-item of every column.
      values: [N, K] in [0, 1].

    >>> whole = RelevancyMatrix(np.array([0, 2]), np.array([[1.0, 0.5], [0.5, 0.0], [0.25, 1.0]]))
    >>> candidates, values = whole.subset(np.array([2, 0]), np.array([2])).resolve()
    >>> candidates.tolist(), values.tolist()
    ([0], [[1.0], [0.5]])
    """

    candidates: np.ndarray
    values: np.ndarray

    def resolve(self) -> tuple[np.ndarray, np.ndarray]:
        return self.candidates, np.asarray(self.values, np.float32)

    def subset(self, a: np.ndarray, b: np.ndarray) -> RelevancyMatrix:
        place = {item: number for number, item in enumerate(np.asarray(b).tolist())}
        kept = np.array([k for k, item in enumerate(self.candidates.tolist()) if item in place], np.int64)
        items = np.array([place[item] for item in self.candidates[kept].tolist()], np.int64)
        return RelevancyMatrix(items, self.values[np.asarray(a, np.int64)][:, kept])


@dataclasses.dataclass(frozen=True)
class ClassRelevancy:
    """Relevancy from classes: r = (IoU of the verbs + IoU of the nouns) / 2.

    Candidates are the first items of the distinct texts.

    Attributes:
      verb: int [N], the verb class of every a-item.
      nouns: for each a-item its noun classes, at least one.
      text: [M], the text of every b-item.
      owner: int [M], the a-item that has the classes of the b-item.

    >>> relevancy = ClassRelevancy(
    ...     np.array([0, 0, 3]), [{2}, {2, 5}, {2}], ["take cup", "take cups", "take cup"], np.arange(3)
    ... )
    >>> candidates, values = relevancy.resolve()
    >>> candidates.tolist(), values.tolist()
    ([0, 1], [[1.0, 0.75], [0.75, 1.0], [0.5, 0.25]])

    Source: EPIC-KITCHENS-100 multi-instance retrieval (Damen et al. 2022, IJCV, section on action retrieval).
    """

    verb: np.ndarray
    nouns: Sequence[frozenset[int] | set[int]]
    text: Sequence[str]
    owner: np.ndarray

    def __post_init__(self) -> None:
        if len(self.verb) != len(self.nouns) or len(self.text) != len(self.owner):
            raise DataError("relevancy: every a-item needs a verb and nouns, every b-item a text and an owner")

    def resolve(self) -> tuple[np.ndarray, np.ndarray]:
        first: dict[str, int] = {}
        for item, text in enumerate(self.text):
            first.setdefault(text, item)
        candidates = np.array(list(first.values()), np.int64)
        asked = np.asarray(self.owner)[candidates]
        verb = np.asarray(self.verb)
        same_verb = verb[:, None] == verb[asked][None, :]
        return candidates, (same_verb + self._noun_overlap(asked)).astype(np.float32) / np.float32(2)

    def _noun_overlap(self, asked: np.ndarray) -> np.ndarray:
        """IoU float32 [N, K], computed once for each pair of distinct sets."""
        number: dict[frozenset[int], int] = {}
        of_item = np.array([number.setdefault(frozenset(nouns), len(number)) for nouns in self.nouns])
        width = 1 + max(max(nouns) for nouns in number)
        member = np.zeros((len(number), width), np.float32)
        for row, nouns in enumerate(number):
            member[row, list(nouns)] = 1
        size, shared = member.sum(axis=1), member @ member.T
        overlap = shared / (size[:, None] + size[None, :] - shared)
        return overlap[of_item[:, None], of_item[asked][None, :]]

    def subset(self, a: np.ndarray, b: np.ndarray) -> ClassRelevancy:
        place = {item: number for number, item in enumerate(np.asarray(a).tolist())}
        rows = np.asarray(a, np.int64)
        return ClassRelevancy(
            np.asarray(self.verb)[rows],
            [self.nouns[i] for i in rows.tolist()],
            [self.text[i] for i in np.asarray(b).tolist()],
            np.array([place[int(self.owner[i])] for i in np.asarray(b).tolist()], np.int64),
        )
