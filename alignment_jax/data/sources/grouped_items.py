"""Items of several images and several captions, from the column `item` of `pairs:FILE`."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import TextColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.manifest_rows import Folder, ManifestRow
from alignment_jax.data.split import PairSource, PairSplit, read_split, split_by_name
from alignment_jax.data.validation import decoding_errors


@dataclasses.dataclass
class _Item:
    split: str | None
    where: str
    images: dict[pathlib.Path, None] = dataclasses.field(default_factory=dict)
    captions: dict[str, str] = dataclasses.field(default_factory=dict)  # caption -> file and row


def grouped_item_source(
    rows: Iterable[tuple[ManifestRow, Folder]],
    captions_of: Callable[[ManifestRow], list[str]],
    *,
    name: str,
    bad: BadSamples,
    notes: Sequence[str] = (),
) -> PairSource:
    """Groups rows by `item`: an item has the distinct images and captions of its rows.

    Args:
      rows: with `item`, `image` and `caption`, of which one of the last two may be empty, and optionally `split`; each
        with the folder of its image.
      captions_of: row -> its captions; empty ones are ignored.
      name: name of the data set in messages.
      bad: collects problems; with "skip" every image is decoded here.
      notes: of the source.

    Raises:
      DataError: with "error", a bad row or an item without image or caption; or no usable item.
    """
    items = dict[str, _Item]()
    for row, folder in rows:
        try:
            _add(items, row, folder, captions_of(row))
        except DataError as error:
            bad.add(str(error))
    for key, item in list(items.items()):
        if not item.images or not item.captions:
            bad.add(f"{item.where}: item {key!r} has no {'image' if not item.images else 'caption'}")
            del items[key]
    if bad.skip and items:
        broken = dict(decoding_errors(_images(items.values())))
        for line in broken.values():
            bad.add(line)
        items = {key: item for index, (key, item) in enumerate(items.items()) if index not in broken}
    problems = bad.finish()
    if not items:
        raise DataError(f"{name}: no usable item" + (f"; first problem: {problems[0]}" if problems else ""))
    owned = list(items.values())
    whole = PairSplit(
        a=_images(owned, verified=bad.skip),
        b=TextColumn(
            tuple(text for item in owned for text in item.captions),
            tuple(where for item in owned for where in item.captions.values()),
        ),
        b_to_a=np.repeat(np.arange(len(owned), dtype=np.int32), [len(item.captions) for item in owned]),
        ids=np.array(list(items)),
    )
    splits, has_splits = split_by_name(whole, None if owned[0].split is None else [str(i.split) for i in owned])
    return PairSource(name, name, splits, has_splits, problems, tuple(notes))


def _images(items: Iterable[_Item], *, verified: bool = False) -> FrameColumn:
    listed = list(items)
    return FrameColumn.of([tuple(i.images) for i in listed], [i.where for i in listed], verified=verified)


def _add(items: dict[str, _Item], row: ManifestRow, folder: Folder, captions: Sequence[str]) -> None:
    key, named = row.values["item"], row.values.get("split")
    if not key:
        raise DataError(f"{row.where}: no item")
    split = None if named is None else read_split(named, where=row.where)
    if "image" in row.files:
        raise DataError(f"{row.where}: an embedded image; for items, save images as files and write their names")
    image = folder.find(row.values["image"], where=row.where) if row.values["image"] else None
    item = items.setdefault(key, _Item(split, row.where))
    if item.split != split:
        raise DataError(f"{row.where}: item {key!r} is in split {split!r} here, but in {item.split!r} at {item.where}")
    if image is not None:
        item.images.setdefault(image)
    for caption in filter(None, captions):
        item.captions.setdefault(caption, row.where)
