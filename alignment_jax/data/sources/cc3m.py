"""`cc3m:DIR` or `cc3m:FILE.tsv`: Conceptual Captions, about three million web images with descriptions.

  DIR/**/*.tar                              shards, see `webdataset`; or
  DIR/Train_GCC-training.tsv                caption<TAB>url, as published, with Validation_GCC-1.1.0-Validation.tsv;
  DIR/training/ROW_CRC, DIR/validation/...  the images as common scripts store them: row number and
                                            CRC-32 of its URL (also CRC alone, also with .jpg); or
  FILE.tsv                                  a header `caption, path` or `title, filepath`, paths relative to the file

Many URLs are dead: rows of the published lists without an image are skipped and counted.
"""

from __future__ import annotations

import pathlib
import zlib

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import read_header, read_positional_rows
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.clips import existing_folder
from alignment_jax.data.sources.webdataset import load_shards
from alignment_jax.data.split import PairSource

# list, folder of its images, split
_LISTS = (
    ("Train_GCC-training.tsv", "training", "train"),
    ("Validation_GCC-1.1.0-Validation.tsv", "validation", "val"),
)
_HEADERS = {
    ("caption", "path"): ("caption", "path"),
    ("path", "caption"): ("path", "caption"),
    ("title", "filepath"): ("caption", "path"),
    ("filepath", "title"): ("path", "caption"),
}


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens Conceptual Captions in one of three layouts, see the module docstring.

    Arguments and errors are those of `data.load`.
    """
    path = pathlib.Path(argument)
    if path.suffix == ".tsv":
        return _load_table(path, BadSamples(on_bad_sample))
    folder = existing_folder(argument)
    lists = [(folder / name, images, split) for name, images, split in _LISTS if (folder / name).is_file()]
    if not lists:
        return load_shards(folder, on_bad_sample)
    bad = BadSamples(on_bad_sample)
    captions, missing = [], 0
    for table, images, split in lists:
        place = folder / images
        if not place.is_dir():
            raise DataError(f"{place}: no such folder; the images of {table.name} must be in it")
        present = {entry.name for entry in place.iterdir()}
        for number, row in enumerate(read_positional_rows(table, ("caption", "url"), bad=bad, tabs=True)):
            code = zlib.crc32(row.values["url"].encode("utf-8"))
            names = [f"{stem}{ending}" for stem in (f"{number}_{code}", str(code)) for ending in ("", ".jpg")]
            name = next((name for name in names if name in present), None)
            if name is None:
                missing += 1
            else:
                captions.append(Caption(f"{images}/{name}", row.values["caption"], split, row.where))
    notes = [f"skipped rows without an image: {missing}"] if missing else []
    return captioned_source(captions, root=folder, name=str(folder), bad=bad, notes=notes)


def _load_table(path: pathlib.Path, bad: BadSamples) -> PairSource:
    header = tuple(read_header(path, tabs=True))
    if header not in _HEADERS:
        raise DataError(f"{path}: expected a header caption<TAB>path, found {', '.join(header)[:200]!r}")
    rows = read_positional_rows(path, _HEADERS[header], bad=bad, tabs=True, header=True)
    captions = [Caption(row.values["path"], row.values["caption"], None, row.where) for row in rows]
    return captioned_source(captions, root=path.parent, name=str(path), bad=bad)
