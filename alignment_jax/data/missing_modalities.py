"""Samples that lack a modality: counted, and left to classifiers, which mask what is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.split import PairSource, PairSplit


def missing_notes(splits: Mapping[str, PairSplit], modalities: Sequence[str]) -> list[str]:
    """One line for each modality that some samples lack, with counts by split."""
    lines = []
    for side, modality in zip("abc", modalities, strict=False):
        count = {name: int((~split.present[side]).sum()) for name, split in splits.items() if side in split.present}
        if total := sum(count.values()):
            parts = ", ".join(f"{name} {found} of {len(splits[name])}" for name, found in count.items() if found)
            lines.append(f"{total} samples have no {modality} ({parts}): a classifier masks what is missing")
    return lines


def complete_samples(source: PairSource, *, on_bad_sample: str = "error") -> PairSource:
    """The source for what needs every modality of every sample, as an alignment does.

    Args:
      source: a data set.
      on_bad_sample: "error" refuses a source with a sample that lacks a modality, "skip" leaves such samples out.

    Raises:
      DataError: the line names the first of them and counts all; or skipping leaves a split without a sample.
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
            f"{where}: no {modality} ({total} samples lack a modality); an alignment needs both sides of a pair: "
            "fill the cells, or leave these rows out with on_bad_sample=skip"
        )
    splits = {
        name: dataclasses.replace(split.subset(np.flatnonzero(~lacking[name])), present={})
        if name in lacking
        else split
        for name, split in source.splits.items()
        if name not in lacking or not lacking[name].all()
    }
    if not splits:
        raise DataError(f"{source.spec}: every sample lacks a modality; an alignment needs both sides of a pair")
    problem = f"{source.spec}: {total} samples that lack a modality are left out"
    return dataclasses.replace(source, splits=splits, problems=(*source.problems, problem))
