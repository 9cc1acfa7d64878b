"""Equal partners in one batch: whether batches carry what tells them, and what a run says of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.classifier import classifies
from alignment_jax.assembly.methods import loss_of


def content_numbers(config: ConfigDict, split: data.PairSplit) -> dict[str, np.ndarray | None]:
    """`id_a` and `id_b` of the training split (see `PairSplit`), where its batches are to carry them.

    A side whose items all differ has none, and a step without any is compiled without ids. An order that draws
    with replacement shows a sample beside itself.
    """
    if classifies(config) or config.loss.duplicates not in loss_of(config).duplicates:
        return {}
    of_a, of_b = split.duplicate_ids
    return {"id_a": split.content_ids_a if config.sampling.replacement else of_a, "id_b": of_b}


def duplicate_notes(config: ConfigDict, split: data.PairSplit) -> Iterator[str]:
    """A line where items repeat and the loss takes them as negatives without having been asked to."""
    if classifies(config) or config.loss.duplicates == "negative" or loss_of(config).duplicates:
        return
    if any(side is not None for side in split.duplicate_ids):
        yield (
            f"items of train repeat, and loss.name={config.loss.name} takes equal partners in one batch as wrong "
            "answers; set loss.duplicates=negative if that is meant"
        )
