"""`pairs:FILE`: one row a pair, columns image, caption and, optionally, split.

The table may be delimited text, JSON, JSON lines, Parquet or a workbook (`table_files`), and its columns may have other
usual names (`roles`) or be named: `pairs:FILE,image=COL,caption=COL`. `pairs:train=FILE,val=FILE,test=FILE` reads a
file for each split.

A recording takes the place of the image in a table with the columns audio and caption, and that of the caption is taken
by an image in one with audio and image. Of a video file the image is its middle frame and the audio its sound.

An image may have several rows, and a cell several captions. With a column `item` an item may have several images, too:
all images and captions of the rows with one name belong together, and a row may leave one of the two empty. In training
another image of an item is shown every time, in evaluation the middle one. Paths are relative to the folder of the
table, or to `root=DIR`, and must not leave it; a Parquet file may hold the images itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.caption_cells import MISSING_WORDS, looks_truncated, split_captions
from alignment_jax.data.columns import ImageFile
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.manifest_rows import ManifestRow
from alignment_jax.data.manifests import manifest_options, open_manifest
from alignment_jax.data.sources.grouped_items import grouped_item_source
from alignment_jax.data.sources.item_pairs import Pair, paired_source
from alignment_jax.data.split import PairSource

PAIRS = (("image", "caption"), ("audio", "caption"), ("audio", "image"))
_OPTIONAL = ("split", "item")
OPTIONS = manifest_options("image", "caption", "audio", *_OPTIONAL)


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a table of pairs.

    Args:
      argument: the path of the table with options after it, or a table for each split; see the module.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Returns:
      The source: a is the image and b the caption, or a is the recording and b its caption or its image.

    Raises:
      ConfigError: the options are malformed.
      DataError: a table or, without skipping, a row of it is unusable.
    """
    bad = BadSamples(on_bad_sample)
    found = open_manifest(argument, what="pairs", choices=PAIRS, optional=_OPTIONAL, bad=bad)
    a, b = _roles(found.rows)
    name, notes = found.name, list(found.notes)
    if b == "caption":
        notes += _odd_captions(row for row, _ in found.rows)
    if found.rows and "item" in found.rows[0][0].values:
        if a != "image":
            raise DataError(f"{name}: a column item is for images with captions; rename it where it is something else")
        return grouped_item_source(found.rows, row_captions, name=name, bad=bad, notes=notes)
    places: dict[str, tuple[Folder, ManifestRow]] = {}
    pairs = []
    for row, folder in found.rows:
        if not row.values[a] and a not in row.files:
            bad.add(f"{row.where}: {_EMPTY.format(a)}")
            continue
        # The same name in the folders of two tables is two files.
        item = str(found.places[folder] / folder.spelling(row.values[a]))
        places.setdefault(item, (folder, row))
        try:
            partners = row_captions(row) if b == "caption" else [_file(row, folder, b, where=row.where)]
        except DataError as error:
            bad.add(str(error))
            continue
        pairs += [Pair(item, partner, row.values.get("split"), row.where) for partner in partners]

    def find(item: str, *, where: str) -> ImageFile:
        folder, row = places[item]
        return _file(row, folder, a, where=where)

    return paired_source(
        pairs,
        kinds=(_KINDS[a], _KINDS[b]),
        find=find,
        name=name,
        bad=bad,
        notes=notes,
        no_item=f"no usable {'recording' if a == 'audio' else a} with {'a caption' if b == 'caption' else 'an image'}",
        no_partner="empty caption; write one, or delete the row",
    )


_EMPTY = "no file name: the cell of the column {} is empty"
_KINDS = {"image": "image", "audio": "audio", "caption": "text"}


def _roles(rows: Sequence[tuple[ManifestRow, Folder]]) -> tuple[str, str]:
    """Which two roles the rows have."""
    present = rows[0][0].values if rows else {}
    return next((pair for pair in PAIRS if set(pair) <= set(present)), PAIRS[0])


def _file(row: ManifestRow, folder: Folder, role: str, *, where: str) -> ImageFile:
    if role in row.files:
        return row.files[role]
    if not row.values[role]:
        raise DataError(f"{where}: {_EMPTY.format(role)}")
    return folder.find(row.values[role], where=where)


def row_captions(row: ManifestRow) -> list[str]:
    """All captions of a row: of its cell or, of several columns, those that are not empty; [""] where there is none."""
    cells = [row.values["caption"], *row.more.get("caption", ())]
    texts = [text for cell in cells for text in split_captions(cell)]
    return [text for text in texts if text] or [""]


def _odd_captions(rows: Iterable[ManifestRow]) -> list[str]:
    """Notes on captions that are read for what they say, but may have meant something else."""
    missing: list[str] = []
    cut: list[str] = []
    for row in rows:
        cell = row.values["caption"]
        if cell.lower() in MISSING_WORDS:
            missing.append(row.where)
        elif looks_truncated(cell):
            cut.append(row.where)
    notes = []
    if missing:
        notes.append(f"captions that say nan, none or null: {len(missing)}, the first at {missing[0]}")
    if cut:
        notes.append(f"captions that begin like a list but are none: {len(cut)}, the first at {cut[0]}")
    return notes
