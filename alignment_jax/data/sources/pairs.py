"""`pairs:FILE`: one row a pair, columns image, caption and, optionally, split.

The table may be delimited text, JSON, JSON lines, Parquet or a workbook (`table_files`), and its columns may have other
usual names (`roles`) or be named: `pairs:FILE,image=COL,caption=COL`. `pairs:train=FILE,val=FILE,test=FILE` reads a
file for each split.

An image may have several rows, and a cell several captions. With a column `item` an item may have several images, too:
all images and captions of the rows with one name belong together, and a row may leave one of the two empty. In training
another image of an item is shown every time, in evaluation the middle one. Paths are relative to the folder of the
table, or to `root=DIR`, and must not leave it; a Parquet file may hold the images itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from alignment_jax.data.caption_cells import MISSING_WORDS, looks_cut, split_captions
from alignment_jax.data.collect import BadSamples
from alignment_jax.data.columns import ImageFile
from alignment_jax.data.folder import Folder
from alignment_jax.data.manifests import manifest_options, open_manifest
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.items import item_source
from alignment_jax.data.split import PairSource
from alignment_jax.data.tables import Row

_REQUIRED, _OPTIONAL = ("image", "caption"), ("split", "item")
OPTIONS = manifest_options(*_REQUIRED, *_OPTIONAL)


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a table of pairs.

    Args:
      argument: the path of the table with options after it, or a table for each split; see the module.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Raises:
      ConfigError: the options are malformed.
      DataError: a table or, without skipping, a row of it is unusable.
    """
    bad = BadSamples(on_bad_sample)
    found = open_manifest(argument, what="pairs", required=_REQUIRED, optional=_OPTIONAL, bad=bad)
    name, notes = found.name, [*found.notes, *_odd_captions(row for row, _ in found.rows)]
    if found.rows and "item" in found.rows[0][0].values:
        return item_source(found.rows, captions_of, name=name, bad=bad, notes=notes)
    places: dict[str, tuple[Folder, Row]] = {}
    captions = []
    for row, folder in found.rows:
        # The same name in the folders of two tables is two images.
        image = str(found.places[folder] / folder.spelling(row.values["image"]))
        places.setdefault(image, (folder, row))
        captions += [Caption(image, text, row.values.get("split"), row.where) for text in captions_of(row)]

    def find(image: str, *, where: str) -> ImageFile:
        folder, row = places[image]
        return row.files.get("image") or folder.find(row.values["image"], where=where)

    return captioned_source(captions, find=find, name=name, bad=bad, notes=notes)


def captions_of(row: Row) -> list[str]:
    """All captions of a row: of its cell or, of several columns, those that are not empty; [""] where there is none."""
    cells = [row.values["caption"], *row.more.get("caption", ())]
    texts = [text for cell in cells for text in split_captions(cell)]
    return [text for text in texts if text] or [""]


def _odd_captions(rows: Iterable[Row]) -> list[str]:
    """Notes on captions that are read for what they say, but may have meant something else."""
    missing: list[str] = []
    cut: list[str] = []
    for row in rows:
        cell = row.values["caption"]
        if cell.lower() in MISSING_WORDS:
            missing.append(row.where)
        elif looks_cut(cell):
            cut.append(row.where)
    notes = []
    if missing:
        notes.append(f"captions that say nan, none or null: {len(missing)}, the first at {missing[0]}")
    if cut:
        notes.append(f"captions that begin like a list but are none: {len(cut)}, the first at {cut[0]}")
    return notes
