"""Samples that lack a modality: notes on them, and a source without them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.split import PairSource, PairSplit


def missing_notes(splits: Mapping[str, PairSplit], modalities: Sequence[str]) -> list[str]:
    """One note for each modality that some samples lack, with counts per split."""
    lines = []
    for side, modality in zip("abc", modalities, strict=False):
        count = {name: int((~split.present[side]).sum()) for name, split in splits.items() if side in split.present}
        if total := sum(count.values()):
            parts = ", ".join(f"{name} {found} of {len(splits[name])}" for name, found in count.items() if found)
            lines.append(f"{total} samples have no {modality} ({parts}): a classifier masks the missing modality")
    return lines


def complete_samples(source: PairSource, *, on_bad_sample: str = "error") -> PairSource:
    """A source in which every sample has all modalities, as alignment needs.

    Args:
      source: a data set.
      on_bad_sample: for samples that lack a modality: "error" raises, "skip" removes them.

    Raises:
      DataError: there are such samples (the message names the first one and counts all), or none is left.
    """
    lacking = {
        name: ~np.all([*split.present.values()], axis=0) for name, split in source.splits.items() if split.present
    }
    total = sum(int(found.sum()) for found in lacking.values())
    if not total:
        return source
    name = next(name for name, found in lacking.items() if found.any())
    first = int(np.argmax(lacking[name]))
    split = source.splits[name]
    side = next(side for side, has in split.present.items() if not has[first])
    modality = dict(zip("abc", source.modalities, strict=False))[side]
    if on_bad_sample != "skip":
        where = {"a": split.a, "b": split.b, "c": split.c}[side].describe(first)  # type: ignore[union-attr]
        raise DataError(
            f"{where}: no {modality} ({total} samples lack a modality); alignment needs both sides of a pair: "
            "fill the cells, or skip these rows with on_bad_sample=skip"
        )
    splits = {
        name: dataclasses.replace(split.subset(np.flatnonzero(~lacking[name])), present={})
        if name in lacking
        else split
        for name, split in source.splits.items()
        if name not in lacking or not lacking[name].all()
    }
    if not splits:
        raise DataError(f"{source.spec}: every sample lacks a modality; alignment needs both sides of a pair")
    problem = f"{source.spec}: skipped {total} samples that lack a modality"
    return dataclasses.replace(source, splits=splits, problems=(*source.problems, problem))
