"""Refuses folders that need another source; the message names the right one."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from alignment_jax.core.errors import DataError
from alignment_jax.data.folder_files import TABLES, classes_of, items_of

_CAPTION_WORDS = ("caption", "text", "metadata", "pairs", "results", "annotations", "title")


def refuse_other_kinds(
    root: pathlib.Path, files: Sequence[pathlib.PurePath], images: Sequence[pathlib.PurePath], *, tables: bool
) -> None:
    """Raises DataError for a folder that `folder:` cannot read; the message says what to write.

    Args:
      root: the folder.
      files, images: its files and images, as relative paths.
      tables: whether its tables are read.
    """
    names = {path.name for path in files}
    if "dataset_dict.json" in names or "state.json" in names or any(path.suffix == ".arrow" for path in files):
        raise DataError(f"{root}: a data set of Hugging Face's datasets; write hf:{root}")
    if not files:
        raise DataError(f"{root}: an empty folder")
    if {"img_emb", "text_emb"} & {part for path in files for part in path.parts}:
        raise DataError(f"{root}: embeddings of clip-retrieval, no images; write embeddings:{root}")
    if tables:
        return
    if not images:
        _refuse_without_images(root, files)
        return
    if any(len(item.files) > 1 for item in items_of(files)[0]):
        return
    lists = [path for path in files if path.suffix.lower() in TABLES and _lists_images(path, images)]
    for path in lists:
        if path.suffix.lower() != ".txt":
            raise DataError(
                f"{root}: images, and the table {path.name}; write pairs:{root / path},root={root / _common(images)}"
            )
        if _lines(root / path) == len(images) and len({image.parent for image in images}) == 1:
            place = root / images[0].parent
            raise DataError(
                f"{root}: images, and {path.name} with a line per image, but no image names. If their order is that of "
                f"the names, run (printf 'image\\tcaption\\n'; ls {place} | paste - {root / path}) > pairs.tsv "
                f"and write pairs:pairs.tsv,root={place}"
            )


def _lists_images(path: pathlib.PurePath, images: Sequence[pathlib.PurePath]) -> bool:
    named = any(word in path.name.lower() for word in _CAPTION_WORDS)
    return named or len(set(classes_of(images).values()) - {None}) < 2


def _common(images: Sequence[pathlib.PurePath]) -> pathlib.PurePath:
    """The common folder of all images."""
    parts = []
    for level in zip(*(image.parts[:-1] for image in images), strict=False):
        if len(set(level)) > 1:
            break
        parts.append(level[0])
    return pathlib.PurePath(*parts)


def _lines(path: pathlib.Path) -> int:
    try:
        return sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    except OSError:
        return -1


def _refuse_without_images(root: pathlib.Path, files: Sequence[pathlib.PurePath]) -> None:
    names = [path.name for path in files]
    if any(name.endswith("_imgs.tsv") for name in names) and any(name.endswith("_texts.jsonl") for name in names):
        raise DataError(
            f"{root}: images as text in a table (Chinese-CLIP); decode them into files with base64.urlsafe_b64decode, "
            "write a table with the columns image and caption, and use pairs:FILE"
        )
    arrays = [name for name in names if name.endswith((".npy", ".npz"))]
    if arrays:
        raise DataError(f"{root}: arrays ({arrays[0]}), no images; see embeddings: and features: in own_data.md")
    tables = [path for path in files if path.suffix.lower() in TABLES]
    if tables:
        raise DataError(f"{root}: no images, but {tables[0]}; if it is a table, write pairs:{root / tables[0]}")
    kinds = sorted({path.suffix.lower() or path.name for path in files})
    raise DataError(f"{root}: no images, only {', '.join(kinds[:6])}")
