"""Makes a source from rows of (image, caption, split); shared by all sources of images with captions."""

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
    """One caption: image name in the manifest, text, split (None: no split information), file and row."""

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
      root: folder of the relative image names; not used with `find`.
      name: name of the data set in messages.
      bad: collects problems; with "skip" every image is decoded here.
      notes: lines for `PairSource.notes`.
      find: (image name, where=file and row) -> the image; default: a file in the folder.

    Raises:
      DataError: a bad sample with "error", or no usable sample.
    """
    return paired_source(
        (Pair(*caption) for caption in captions),
        kinds=("image", "text"),
        find=Folder(root or pathlib.Path()).find if find is None else find,
        name=name,
        bad=bad,
        notes=notes,
        no_item="no usable image with a caption",
        no_partner="empty caption; add one, or delete the row",
    )
