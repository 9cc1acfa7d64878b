"""Counts duplicate items of a split, and the best R@1 if duplicates counted as wrong answers."""

from __future__ import annotations

import dataclasses

import numpy as np

from alignment_jax.data.split import PairSplit


@dataclasses.dataclass(frozen=True)
class DuplicateCounts:
    """Duplicate rows of a split.

    Attributes:
      a, b: number of a-rows and b-rows that duplicate an earlier row.
      of_a, of_b: number of rows.
      most_a2b, most_b2a: upper bound of R@1 in % if duplicates were separate items, which tie with the right answer.
    """

    a: int
    b: int
    of_a: int
    of_b: int
    most_a2b: float
    most_b2a: float


def count_duplicates(split: PairSplit) -> DuplicateCounts:
    """Counts the duplicate rows of a split by their content.

    >>> from alignment_jax.data.columns import ArrayColumn, TextColumn
    >>> texts = TextColumn(("a dog", "a dog", "a cat", "a cow"))
    >>> count_duplicates(PairSplit(ArrayColumn(np.eye(4)), texts, np.arange(4), np.array(list("wxyz"))))
    DuplicateCounts(a=0, b=1, of_a=4, of_b=4, most_a2b=50.0, most_b2a=75.0)
    """
    content_ids_a, content_ids_b, owner = split.content_ids_a, split.content_ids_b, split.b_to_a
    if all(ids is None for ids in split.duplicate_ids):
        return DuplicateCounts(0, 0, len(content_ids_a), len(content_ids_b), 100.0, 100.0)
    count_a = np.bincount(content_ids_a)
    # Texts that belong to one image only: nothing ties with them.
    first = np.full(int(content_ids_b.max()) + 1, len(split), np.int64)
    last = np.full(len(first), -1, np.int64)
    np.minimum.at(first, content_ids_b, owner)
    np.maximum.at(last, content_ids_b, owner)
    owned_alone = (first == last)[content_ids_b]
    # Equal queries get the same ranking, so at most one of their images is first.
    asked = np.zeros(len(split), bool)
    asked[owner[owned_alone]] = True
    hits_a = len(np.unique(content_ids_a[asked]))
    # The images of each text and how often each is the answer; duplicate images are never first alone.
    pairs, times = np.unique(content_ids_b.astype(np.int64) * len(split) + owner, return_counts=True)
    times = np.where(count_a[content_ids_a[pairs % len(split)]] == 1, times, 0)
    best = np.zeros(len(first), np.int64)
    np.maximum.at(best, pairs // len(split), times)
    return DuplicateCounts(
        a=len(content_ids_a) - len(count_a),
        b=len(content_ids_b) - len(first),
        of_a=len(content_ids_a),
        of_b=len(content_ids_b),
        most_a2b=100.0 * hits_a / len(content_ids_a),
        most_b2a=100.0 * float(best.sum()) / len(content_ids_b),
    )


def duplicates_note(name: str, found: DuplicateCounts, modalities: tuple[str, ...]) -> str | None:
    """A note on the duplicates of a split, in one line; None if there are none.

    >>> duplicates_note("test", DuplicateCounts(0, 30, 40, 40, 0.0, 10.0), ("image", "text"))
    'test: 30 of 40 text items repeat an earlier one; equal items count as one. Counted as different ones, R@1 ...'
    """
    a, b = modalities[:2]
    sides = ((found.a, found.of_a, a), (found.b, found.of_b, b))
    counted = [f"{count} of {of} {what} items" for count, of, what in sides if count]
    if not counted:
        return None
    return (
        f"{name}: {' and '.join(counted)} repeat an earlier one; equal items count as one. Counted as different ones, "
        f"R@1 could be at most {found.most_a2b:.1f} % ({a} to {b}) and {found.most_b2a:.1f} % ({b} to {a})."
    )
