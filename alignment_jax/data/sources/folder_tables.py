"""Reads folders with tables of their images, or with tables that hold them (Hugging Face, img2dataset)."""

from __future__ import annotations

import pathlib
import re

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import ImageFile
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.folder_files import METADATA, split_of
from alignment_jax.data.manifest_rows import ManifestRow, read_manifest
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.pairs import row_captions
from alignment_jax.data.split import PairSource, canonical_split
from alignment_jax.data.table_files import open_table

_BYTES = ("jpg", "png", "webp")  # image columns of img2dataset


def load_tables(
    root: pathlib.Path,
    tables: list[pathlib.PurePath],
    bad: BadSamples,
    images: list[pathlib.PurePath],
    options: dict[str, str],
) -> PairSource:
    """The source of all tables in a folder.

    The split of a row is in its column split, in the folder names of its image, or in the name of its table.

    Args:
      root: the folder.
      tables, images: its files, as relative paths.
      bad: collects bad samples.
      options: role -> column of the SPEC, "" for none.

    Raises:
      DataError: a table cannot be read, or only some rows have a split.
    """
    captions: list[Caption] = []
    found: dict[str, tuple[Folder, ManifestRow]] = {}
    notes: list[str] = []
    failed = 0
    for table in tables:
        path = root / table
        named = {role: name for role, name in options.items() if name} or _stored(path)
        read = read_manifest(path, required=("image", "caption"), optional=("split", "status"), bad=bad, named=named)
        folder = Folder(path.parent)
        notes += read.notes
        for row in read.rows:
            if row.values.get("status", "success") != "success" and not row.files:
                failed += 1
                continue
            image = row.values["image"] if row.files else folder.spelling(row.values["image"])
            name = (table.parent / image).as_posix()
            split = row.values.get("split") or split_of(pathlib.PurePath(name)) or _split_of_name(table)
            found.setdefault(name, (folder, row))
            captions += [Caption(name, text, split, row.where) for text in row_captions(row)]
    unknown = next((each for each in captions if each.split is None), None)
    if unknown is not None and any(each.split for each in captions):
        raise DataError(f"{unknown.where}: no split in its folder or table name, but others have one")
    if failed:
        notes.append(f"skipped rows whose image was not downloaded (status is not success): {failed}")
    if more := [path for path in images if path.as_posix() not in found]:
        notes.append(f"unused images that are in no table: {len(more)}, first {root / more[0]}")

    def find(name: str, *, where: str) -> ImageFile:
        folder, row = found[name]
        return row.files.get("image") or folder.find(row.values["image"], where=where)

    return captioned_source(captions, find=find, name=str(root), bad=bad, notes=notes)


def _stored(path: pathlib.Path) -> dict[str, str]:
    """The image column of a Parquet file of img2dataset."""
    if path.suffix.lower() != ".parquet" or path.name in METADATA:
        return {}
    header = open_table(path, known=lambda name: True).header
    column = next((name for name in _BYTES if name in header), None)
    if column is None and {"url", "status"} <= set(header):
        raise DataError(
            f"{path}: a metadata table of img2dataset without images; name the folder of its shards or images, or "
            "download them again with --output_format=webdataset"
        )
    return {} if column is None else {"image": column}


def _split_of_name(table: pathlib.PurePath) -> str | None:
    words = re.findall(r"[a-z]+", table.stem.lower())
    found = {split for word in words if (split := canonical_split(word)) is not None}
    return found.pop() if len(found) == 1 else None
