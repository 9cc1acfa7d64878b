"""Lists a folder: images, and the files that share their names."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from alignment_jax.data.sample_files import IMAGES, TEXTS
from alignment_jax.data.split import canonical_split

SUFFIXES = tuple(f".{ending}" for ending in IMAGES if ending not in ("img", "image"))
TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".json", ".txt", ".gz")
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# Folder names that mean a kind of file, not a class.
_KINDS = {
    *("image", "images", "img", "imgs", "jpg", "jpeg", "png", "picture", "pictures", "photo", "photos"),
    *("caption", "captions", "text", "texts", "txt", "label", "labels", "json", "annotation", "annotations"),
}


class Item(NamedTuple):
    """An image and the files of its name: extension in lower case -> path relative to the folder."""

    image: pathlib.PurePath
    files: Mapping[str, pathlib.PurePath]


def files_below(folder: pathlib.Path) -> list[pathlib.PurePath]:
    """All files below a folder except hidden ones, as relative paths sorted by name."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        here = pathlib.PurePath(os.path.relpath(place, folder))
        found += [here / name for name in sorted(names) if not name.startswith(".")]
    return found


def is_image(path: pathlib.PurePath) -> bool:
    return path.suffix.lower() in SUFFIXES


def items_of(files: Iterable[pathlib.PurePath]) -> tuple[list[Item], list[pathlib.PurePath]]:
    """`(items, unmatched texts)`: every image with the texts of its name, in its folder or in a folder for texts.

    >>> P = pathlib.PurePath
    >>> items, left = items_of([P("images/1.jpg"), P("captions/1.txt"), P("readme.txt")])
    >>> dict(items[0].files), left
    ({'jpg': PurePosixPath('images/1.jpg'), 'txt': PurePosixPath('captions/1.txt')}, [PurePosixPath('readme.txt')])
    """
    images: dict[pathlib.PurePath, dict[str, pathlib.PurePath]] = {}  # folder/stem -> ending -> path
    texts: dict[pathlib.PurePath, dict[str, pathlib.PurePath]] = {}
    for path in files:
        ending = path.suffix.lower().removeprefix(".")
        if is_image(path):
            images.setdefault(path.with_suffix(""), {})[ending] = path
        elif ending in (*TEXTS, "json"):
            stem = path.with_suffix("")
            texts.setdefault(stem.with_suffix("") if is_image(stem) else stem, {})[ending] = path
    alone = [stem for stem in images if stem not in texts]
    elsewhere = _pairs_of(alone, [stem for stem in texts if stem not in images])
    items = []
    for stem, of_stem in images.items():
        found = texts.pop(stem if stem in texts else elsewhere.get(stem, stem), {})
        items += [Item(image, {**of_stem, **found}) for image in of_stem.values()]
    return items, [path for found in texts.values() for path in found.values()]


def _pairs_of(
    images: Iterable[pathlib.PurePath], texts: Iterable[pathlib.PurePath]
) -> dict[pathlib.PurePath, pathlib.PurePath]:
    """images/1 -> captions/1: names that are equal except for folders of `_KINDS`, and unique."""
    by_key: dict[tuple[str, ...], tuple[list[pathlib.PurePath], list[pathlib.PurePath]]] = {}
    for side, stems in enumerate((images, texts)):
        for stem in stems:
            key = (*(part for part in stem.parts[:-1] if part.lower() not in _KINDS), stem.name)
            by_key.setdefault(key, ([], []))[side].append(stem)
    return {found[0][0]: found[1][0] for found in by_key.values() if len(found[0]) == len(found[1]) == 1}


def split_of(path: pathlib.PurePath) -> str | None:
    """The split in the names of the folders of a file; None for none or several."""
    found = {split for part in path.parts[:-1] if (split := canonical_split(part)) is not None}
    return found.pop() if len(found) == 1 else None


def classes_of(images: Sequence[pathlib.PurePath]) -> dict[pathlib.PurePath, str | None]:
    """The class of each image: its first folder that is not a split and does not hold all images, or None.

    >>> P = pathlib.PurePath
    >>> list(classes_of([P("images/train/dog/1.jpg"), P("images/val/cat/2.jpg")]).values())
    ['dog', 'cat']
    """
    folders = {path: [part for part in path.parts[:-1] if canonical_split(part) is None] for path in images}
    while folders and all(folders.values()) and len({parts[0] for parts in folders.values()}) == 1:
        folders = {path: parts[1:] for path, parts in folders.items()}
    return {path: parts[0] if parts else None for path, parts in folders.items()}
