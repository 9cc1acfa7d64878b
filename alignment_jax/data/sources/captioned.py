"""What every data set of image files with captions shares: rows of (image, caption, split) become a source."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.collect import BadSamples
from alignment_jax.data.columns import ImageColumn, ImageFile, TextColumn
from alignment_jax.data.faults import faults
from alignment_jax.data.split import PairSource, PairSplit, canonical_split, read_split, split_by_name
from alignment_jax.data.tables import Folder


class Caption(NamedTuple):
    """One caption: the image's name in the manifest, its text, its split (None: no such information), file and row."""

    image: str
    text: str
    split: str | None
    where: str


@dataclasses.dataclass
class _Image:
    path: ImageFile
    split: str | None
    where: str
    captions: list[tuple[str, str]]


def captioned_source(
    captions: Iterable[Caption],
    *,
    root: pathlib.Path | None = None,
    name: str,
    bad: BadSamples,
    notes: Iterable[str] = (),
    find: Callable[..., ImageFile] | None = None,
) -> PairSource:
    """Groups captions by image, checks every file and makes the splits.

    Args:
      captions: in the order of the manifest.
      root: the folder that image names are relative to and must not leave; not used with `find`.
      name: what to call the data set in messages.
      bad: collects what is wrong; with skipping, images are decoded once here.
      notes: lines for `PairSource.notes`.
      find: (image name, where=file and row) -> the image; by default a file in the folder.

    Raises:
      DataError: a bad sample that may not be skipped, or nothing usable is left.
    """
    find = Folder(root or pathlib.Path()).find if find is None else find
    images: dict[str, _Image | None] = {}
    for image, text, split, where in captions:
        if image not in images:
            try:
                path = find(image, where=where)
                known = None if split is None else read_split(split, where=where)
                images[image] = _Image(path, known, where, [])
            except DataError as error:
                bad.add(str(error))
                images[image] = None
        entry = images[image]
        if entry is None:
            continue
        if split is not None and canonical_split(split) != entry.split:
            bad.add(f"{where}: {image!r} is in split {split!r} here, but in {entry.split!r} at {entry.where}")
        elif not text:
            bad.add(f"{where}: empty caption; write one, or delete the row")
        else:
            entry.captions.append((text, where))

    usable = {image: entry for image, entry in images.items() if entry is not None and entry.captions}
    column = ImageColumn(tuple(e.path for e in usable.values()), tuple(e.where for e in usable.values()))
    if bad.skip:
        found = dict(faults(column))
        for line in found.values():
            bad.add(line)
        good = [i for i in range(len(column)) if i not in found]
        usable = {image: entry for i, (image, entry) in enumerate(usable.items()) if i not in found}
        column = dataclasses.replace(column.take(np.array(good, np.int64)), verified=True)
    problems = bad.settle()
    if not usable:
        first = f"; the first problem of {len(problems)}: {problems[0]}" if problems else ""
        raise DataError(f"{name}: no usable image with a caption{first}")

    entries = list(usable.values())
    whole = PairSplit(
        a=column,
        b=TextColumn(
            tuple(text for e in entries for text, _ in e.captions),
            tuple(where for e in entries for _, where in e.captions),
        ),
        b_to_a=np.repeat(np.arange(len(entries), dtype=np.int32), [len(e.captions) for e in entries]),
        ids=np.array(list(usable)),
    )
    names = None if entries[0].split is None else [e.split or "" for e in entries]
    splits, has_splits = split_by_name(whole, names)
    return PairSource(name, name, splits, has_splits, problems, tuple(notes))
