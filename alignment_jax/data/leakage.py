"""Finds content that occurs in two splits (leakage), or twice in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from alignment_jax.data.split import PairSource, content_groups


@dataclasses.dataclass(frozen=True)
class Leak:
    """Items of a split that are also in an earlier one.

    Attributes:
      side: "a" or "b".
      split, earlier: the two splits.
      count, of: number of items of `split` that are also in `earlier`, and number of all its items.
      example: origins of the first such item and of its duplicate.
    """

    side: str
    split: str
    earlier: str
    count: int
    of: int
    example: tuple[str, str]


def leaks(source: PairSource, side: str) -> tuple[list[Leak], dict[str, int]]:
    """`(leaks, repeated)` of one side: items that two splits share, and the number of duplicates within each split.

    Content is compared exactly: bytes of files, values of arrays, characters of texts.

    >>> from alignment_jax.data import load
    >>> leaks(load("synthetic:train=8,val=2,test=2,size=16"), "a")
    ([], {'train': 0, 'val': 0, 'test': 0})
    """
    names = list(source.splits)
    columns = [getattr(split, side) for split in source.splits.values()]
    groups = content_groups(*columns)
    firsts = [_first_places(group) for group in groups]
    found = []
    for later in range(1, len(names)):
        for earlier in range(later):
            shared = [i for i, group in enumerate(groups[later].tolist()) if group in firsts[earlier]]
            if shared:
                twin = firsts[earlier][int(groups[later][shared[0]])]
                example = (columns[later].describe(shared[0]), columns[earlier].describe(twin))
                found.append(Leak(side, names[later], names[earlier], len(shared), len(columns[later]), example))
    repeated = {name: len(group) - len(first) for name, group, first in zip(names, groups, firsts, strict=True)}
    return found, repeated


def leak_warning(leak: Leak, modality: str) -> str:
    """The leak as one line.

    >>> leak_warning(Leak("a", "test", "train", 3, 12, ("x.png", "y.png")), "image")
    'warning: 3 of 12 image items of test (25.0 %) are also in train, for example x.png is y.png'
    """
    share = 100 * leak.count / leak.of
    line = (
        f"warning: {leak.count} of {leak.of} {modality} items of {leak.split} ({share:.1f} %) are also in "
        f"{leak.earlier}, for example {leak.example[0]} is {leak.example[1]}"
    )
    return " ".join(line.splitlines())


def shared_items(count: int, of: int, split: str, earlier: str) -> str:
    """A line on b-items; equal captions in two splits are common and often harmless, so it is no warning.

    >>> shared_items(2, 10, "test", "train")
    '2 of 10 b-items of test are also in train'
    """
    return f"{count} of {of} b-items of {split} are also in {earlier}"


def _first_places(group: Sequence[int] | np.ndarray) -> dict[int, int]:
    """Content number -> the first item that has it."""
    places: dict[int, int] = {}
    for place, number in enumerate(np.asarray(group).tolist()):
        places.setdefault(number, place)
    return places
