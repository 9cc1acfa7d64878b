"""Ids of equal items, by which the loss recognizes equal partners in one batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alignment_jax import data


def item_ids(
    split: data.PairSplit, *, duplicates: str, supported: tuple[str, ...], replacement: bool
) -> dict[str, np.ndarray | None]:
    """`id_a` and `id_b` of the training split (see `PairSplit`), or {} where the loss does not read them.

    A side without repeated items has no ids, and a step without ids compiles without them. With replacement, a batch
    may hold the same sample twice.

    Args:
      split: the training split.
      duplicates: `loss.duplicates`.
      supported: the values that the loss implements (`Loss.duplicates`); () for a classifier.
      replacement: `sampling.replacement`.
    """
    if duplicates not in supported:
        return {}
    repeats_a, repeats_b = split.duplicate_ids
    return {"id_a": split.content_ids_a if replacement else repeats_a, "id_b": repeats_b}


def duplicate_notes(split: data.PairSplit, *, loss: str, duplicates: str, supported: tuple[str, ...]) -> Iterator[str]:
    """A line where items of train repeat and the loss cannot treat them as configured.

    Args:
      split: the training split.
      loss: `loss.name`.
      duplicates, supported: see `item_ids`.
    """
    if duplicates == "negative" or supported:
        return
    if any(side is not None for side in split.duplicate_ids):
        yield (
            f"items of train repeat, and loss.name={loss} takes equal partners in one batch as negatives; set "
            "loss.duplicates=negative if that is meant"
        )
