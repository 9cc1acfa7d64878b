"""Items of several images and several captions: what `pairs:FILE` makes of a column `item`."""

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
    captions: dict[str, str] = dataclasses.field(default_factory=dict)  # caption -> where it stands


def grouped_item_source(
    rows: Iterable[tuple[ManifestRow, Folder]],
    captions_of: Callable[[ManifestRow], list[str]],
    *,
    name: str,
    bad: BadSamples,
    notes: Sequence[str] = (),
) -> PairSource:
    """Groups rows by their `item`: every image and every caption of its rows belongs to it, each once.

    Args:
      rows: with `item`, `image` and `caption`, one of the last two possibly empty, and optionally `split`; each
        with the folder that its image is relative to and must not leave.
      captions_of: row -> its captions; an empty text is none.
      name: what to call the data set in messages.
      bad: collects what is wrong; with skipping, images are decoded once here.
      notes: of the source.

    Raises:
      DataError: a bad row that may not be skipped, an item without image or without caption, or nothing is left.
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
        raise DataError(f"{name}: no usable item" + (f"; first: {problems[0]}" if problems else ""))
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
        raise DataError(f"{row.where}: an image in the table itself; images of items are files, write their names")
    image = folder.find(row.values["image"], where=row.where) if row.values["image"] else None
    item = items.setdefault(key, _Item(split, row.where))
    if item.split != split:
        raise DataError(f"{row.where}: item {key!r} is in split {split!r} here, but in {item.split!r} at {item.where}")
    if image is not None:
        item.images.setdefault(image)
    for caption in filter(None, captions):
        item.captions.setdefault(caption, row.where)
