"""What every data set of image files with captions shares: rows of (image, caption, split) become a source."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import ImageFile
from alignment_jax.data.manifest_rows import Folder
from alignment_jax.data.sources.item_pairs import Pair, paired_source
from alignment_jax.data.split import PairSource


class Caption(NamedTuple):
    """One caption: the image's name in the manifest, its text, its split (None: no such information), file and row."""

    image: str
    text: str
    split: str | None
    where: str


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
    return paired_source(
        (Pair(*caption) for caption in captions),
        kinds=("image", "text"),
        find=Folder(root or pathlib.Path()).find if find is None else find,
        name=name,
        bad=bad,
        notes=notes,
        no_item="no usable image with a caption",
        no_partner="empty caption; write one, or delete the row",
    )
