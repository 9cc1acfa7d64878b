"""Batches for a function that takes several at once, with the next group started before the last result is read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from alignment_jax.core.types import PyTree


def group_batches(batches: Iterable[PyTree], width: int) -> Iterator[tuple[PyTree, int]]:
    """Joins `width` batches of k rows each.

    Args:
      batches: trees of arrays [k, ...], one k for all.
      width: batches of a group; the last group is filled up with copies of its last batch.

    Yields:
      A tree of arrays [width * k, ...], and how many of its leading rows are no copies.

    >>> [(group.tolist(), rows) for group, rows in group_batches(np.arange(3)[:, None], 2)]
    [([0, 1], 2), ([2, 2], 1)]
    """
    batches = iter(batches)
    while group := list(itertools.islice(batches, width)):
        rows = len(group) * len(jax.tree.leaves(group[0])[0])
        if width == 1:
            yield group[0], rows
        else:
            group += [group[-1]] * (width - len(group))
            yield jax.tree.map(lambda *parts: np.concatenate(parts), *group), rows


def start_ahead(function: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """(argument, function(argument)) in order; the next call is made before a result is yielded.

    A function of JAX returns before its result is computed, so that the devices compute while the caller reads.

    >>> list(start_ahead(lambda x: x + 1, [1, 2]))
    [(1, 2), (2, 3)]
    """
    waiting = None
    for argument in arguments:
        started = argument, function(argument)
        if waiting is not None:
            yield waiting
        waiting = started
    if waiting is not None:
        yield waiting
