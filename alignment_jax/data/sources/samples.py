"""Makes a source of labelled samples with two or three modalities; shared by all classification sources."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.audio import AudioColumn
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn, ImageColumn, TextColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.manifest_rows import ManifestRow
from alignment_jax.data.split import Column, PairSource, PairSplit, canonical_split, split_by_name
from alignment_jax.data.validation import decoding_errors

RowT = TypeVar("RowT")


class Sample(NamedTuple):
    """One sample: name, class, split (None: no split information), a part for each modality, file and row.

    A part is None if the sample lacks this modality.
    """

    name: str
    label: str
    split: str | None
    parts: tuple[Any, ...]
    where: str


# Kinds that may be missing in a sample: their columns have placeholders.
_MAY_MISS = ("audio", "image", "text")
# kind of a part -> its column: a path to a recording or an image, paths of the frames of a clip, a text, a vector.
_COLUMNS: dict[str, Callable[[Sequence[Any], Sequence[str], bool], Column]] = {
    "audio": lambda parts, where, verified: AudioColumn(tuple(parts), tuple(where), verified),
    "image": lambda parts, where, verified: ImageColumn(tuple(parts), tuple(where), verified=verified),
    "frames": lambda parts, where, verified: FrameColumn.of(parts, where, verified=verified),
    "text": lambda parts, where, verified: TextColumn(tuple(part or "" for part in parts), tuple(where)),
    "features": lambda parts, where, verified: _stacked(parts, where),
}


def _stacked(parts: Sequence[np.ndarray], where: Sequence[str]) -> ArrayColumn:
    for part, row in zip(parts, where, strict=True):
        if part.shape != parts[0].shape:
            raise DataError(f"{row}: features of {len(part)} numbers, but {len(parts[0])} in {where[0]}")
    return ArrayColumn(np.stack(parts), name=f"features from {where[0]}")


def labelled_sample_source(
    rows: Iterable[RowT],
    make: Callable[[RowT], Sample],
    *,
    kinds: Sequence[str],
    modalities: Sequence[str],
    name: str,
    where: pathlib.Path,
    bad: BadSamples,
    notes: Sequence[str] = (),
    hints: Mapping[str, Any] | None = None,
) -> PairSource:
    """Makes and checks a sample for every row, and makes the splits.

    Args:
      rows: in the order of the data set.
      make: row -> its sample; raises DataError for an unusable row.
      kinds: of a sample's parts, two or three: "audio", "image", "frames", "text" or "features".
      modalities: names of the parts.
      name: of the source.
      where: the file or folder, for messages.
      bad: collects problems; with "skip" every file is decoded here.
      notes, hints: of the source.

    Raises:
      DataError: a bad sample with "error", no usable sample, or a modality that all samples lack.
    """
    samples = _collect(rows, make, bad, kinds=kinds, modalities=modalities)
    columns = _columns(samples, kinds, verified=False) if samples else []
    if bad.skip and samples:
        found = {index: line for column in columns for index, line in decoding_errors(column)}
        for line in found.values():
            bad.add(line)
        samples = [sample for index, sample in enumerate(samples) if index not in found]
        columns = _columns(samples, kinds, verified=True) if samples else []
    problems = bad.finish()
    if not samples:
        raise DataError(f"{where}: no usable sample" + (f"; first problem: {problems[0]}" if problems else ""))
    present = _present(samples, modalities, where)
    label, names = number_classes([sample.label for sample in samples])
    whole = PairSplit(
        a=columns[0],
        b=columns[1],
        c=columns[2] if len(columns) > 2 else None,
        b_to_a=np.arange(len(samples), dtype=np.int32),
        ids=np.array([sample.name for sample in samples]),
        label=label,
        present=present,
    )
    listed = None if samples[0].split is None else [str(sample.split) for sample in samples]
    splits, has_splits = split_by_name(whole, listed)
    return PairSource(
        name,
        name,
        splits,
        has_splits,
        problems,
        tuple(notes),
        label_names=names,
        hints=dict(hints or {}),
        modalities=tuple(modalities),
    )


def table_notes(
    path: pathlib.Path, rows: Sequence[ManifestRow], others: Sequence[str], *, label: str = "label"
) -> list[str]:
    """Notes on a table: unused columns, and labels with surrounding spaces."""
    notes = [f"{path}: unused columns: {', '.join(others)}"] if others else []
    padded = [row for row in rows if label in row.padded]
    if padded:
        name = padded[0].values[label]
        notes.append(f"{padded[0].where}: spaces around the label {name!r} are removed ({len(padded)} such rows)")
    return notes


def _present(samples: Sequence[Sample], modalities: Sequence[str], where: pathlib.Path) -> dict[str, np.ndarray]:
    """Side -> bool [N], whether a sample has it, for the sides that some samples lack."""
    found = {}
    for k, (side, modality) in enumerate(zip("abc", modalities, strict=False)):
        has = np.array([sample.parts[k] is not None for sample in samples])
        if not has.any():
            raise DataError(f"{where}: no row has {_a(modality)}; a classifier needs two modalities")
        if not has.all():
            found[side] = has
    return found


def _a(modality: str) -> str:
    return f"{'an' if modality[0] in 'aeiou' else 'a'} {modality}"


def _collect(
    rows: Iterable[RowT],
    make: Callable[[RowT], Sample],
    bad: BadSamples,
    *,
    kinds: Sequence[str],
    modalities: Sequence[str],
) -> list[Sample]:
    samples: list[Sample] = []
    seen: dict[str, str] = {}
    for row in rows:
        try:
            sample = make(row)
            if not sample.label:
                raise DataError(f"{sample.where}: no label")
            if all(part is None for part in sample.parts):
                raise DataError(f"{sample.where}: neither {' nor '.join(modalities)}; a sample needs at least one")
            for part, kind, modality in zip(sample.parts, kinds, modalities, strict=True):
                if part is None and kind not in _MAY_MISS:
                    raise DataError(f"{sample.where}: no {modality}")
            split = None if sample.split is None else canonical_split(sample.split)
            if sample.split is not None and split is None:
                raise DataError(f"{sample.where}: unknown split {sample.split!r}; known: train, val, test")
            if sample.name in seen:
                raise DataError(f"{sample.where}: {sample.name!r} is also in {seen[sample.name]}")
            seen[sample.name] = sample.where
            samples.append(sample._replace(split=split))
        except DataError as error:
            bad.add(str(error))
    return samples


def _columns(samples: Sequence[Sample], kinds: Sequence[str], *, verified: bool) -> list[Column]:
    where = [sample.where for sample in samples]
    return [_COLUMNS[kind]([sample.parts[k] for sample in samples], where, verified) for k, kind in enumerate(kinds)]
