"""`pairs:FILE`: one row per pair; columns image, caption and, optionally, split.

The table may be delimited text, JSON, JSON lines, Parquet or a workbook (`table_files`). Its columns may have other
common names (`column_roles`) or be named in the SPEC: `pairs:FILE,image=COL,caption=COL`.
`pairs:train=FILE,val=FILE,test=FILE` reads one file per split.

The columns audio and caption pair recordings with captions, the columns audio and image recordings with images. Of a
video file, the image is its middle frame and the audio its sound.

An image may have several rows, and a cell several captions. With a column `item`, all images and captions of the rows
with the same value belong together, and one of the two cells may be empty. Training samples a random image of an item,
evaluation uses the middle one. Paths are relative to the folder of the table, or to `root=DIR`, and must not leave it.
A Parquet file may contain the images.
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
      argument: path of the table and options, or one table per split; see the module docstring.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Returns:
      The source: a is the image and b the caption, or a is the recording and b the caption or the image.

    Raises:
      ConfigError: the options are malformed.
      DataError: a table or, with "error", a row is unusable.
    """
    bad = BadSamples(on_bad_sample)
    found = open_manifest(argument, what="pairs", choices=PAIRS, optional=_OPTIONAL, bad=bad)
    a, b = _roles(found.rows)
    name, notes = found.name, list(found.notes)
    if b == "caption":
        notes += _odd_captions(row for row, _ in found.rows)
    if found.rows and "item" in found.rows[0][0].values:
        if a != "image":
            raise DataError(f"{name}: a column item groups images with captions; rename it if it means something else")
        return grouped_item_source(found.rows, row_captions, name=name, bad=bad, notes=notes)
    places: dict[str, tuple[Folder, ManifestRow]] = {}
    pairs = []
    for row, folder in found.rows:
        if not row.values[a] and a not in row.files:
            bad.add(f"{row.where}: {_EMPTY.format(a)}")
            continue
        # Equal names in the folders of two tables are different files.
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
        no_partner="empty caption; add one, or delete the row",
    )


_EMPTY = "no file name: the cell of the column {} is empty"
_KINDS = {"image": "image", "audio": "audio", "caption": "text"}


def _roles(rows: Sequence[tuple[ManifestRow, Folder]]) -> tuple[str, str]:
    """The two roles of the rows."""
    present = rows[0][0].values if rows else {}
    return next((pair for pair in PAIRS if set(pair) <= set(present)), PAIRS[0])


def _file(row: ManifestRow, folder: Folder, role: str, *, where: str) -> ImageFile:
    if role in row.files:
        return row.files[role]
    if not row.values[role]:
        raise DataError(f"{where}: {_EMPTY.format(role)}")
    return folder.find(row.values[role], where=where)


def row_captions(row: ManifestRow) -> list[str]:
    """The non-empty captions of a row, from one or several columns; [""] if there is none."""
    cells = [row.values["caption"], *row.more.get("caption", ())]
    texts = [text for cell in cells for text in split_captions(cell)]
    return [text for text in texts if text] or [""]


def _odd_captions(rows: Iterable[ManifestRow]) -> list[str]:
    """Notes on captions that may be missing values or truncated lists."""
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
        notes.append(f"captions that are nan, none or null: {len(missing)}, first at {missing[0]}")
    if cut:
        notes.append(f"captions that start like a list but are not one: {len(cut)}, first at {cut[0]}")
    return notes
