"""Equal partners in one batch: whether batches carry what tells them, and what a run says of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.config.classification import classifies
from alignment_jax.config.methods import loss_of


def content_numbers(config: ConfigDict, split: data.PairSplit) -> dict[str, np.ndarray]:
    """`id_a` and `id_b` of the training split (see `PairSplit`), where its batches are to carry them; else nothing.

    A step in which no item can meet its equal is compiled without ids: every item is one of a kind, and no order shows
    a sample twice.
    """
    if classifies(config) or config.loss.duplicates not in loss_of(config).duplicates:
        return {}
    if not (config.sampling.replacement or _repeats(split)):
        return {}
    return {"id_a": split.same_a, "id_b": split.same_b}


def duplicate_notes(config: ConfigDict, split: data.PairSplit) -> Iterator[str]:
    """A line where items repeat and the loss takes them as negatives without having been asked to."""
    if classifies(config) or config.loss.duplicates == "negative" or loss_of(config).duplicates:
        return
    if _repeats(split):
        yield (
            f"items of train repeat, and loss.name={config.loss.name} takes equal partners in one batch as wrong "
            "answers; set loss.duplicates=negative if that is meant"
        )


def _repeats(split: data.PairSplit) -> bool:
    """Whether two items of one side have equal content."""
    return any(_most(numbers) + 1 < len(numbers) for numbers in (split.same_a, split.same_b))


def _most(numbers: np.ndarray) -> int:
    return int(numbers.max(initial=-1))
