"""`twitter2015:DIR`: Twitter2015, sentiment towards a target in a tweet and its image.

  train.tsv, dev.tsv, test.tsv                also in annotations/; tab-separated, as published:
      index, #1 Label, #2 ImageID, #3 String, #3 String       (train and dev)
      index, #1 ImageID, #2 String, #2 String                 (test; its first column holds the class)
  twitter2015_images/ID.jpg                   or images/

The first text is the tweet with $T$ in place of the target, the second the target. A tweet with two targets may have
two sentiments, so the text of a sample is the target, a bar, and the tweet with $T$.
"""

from __future__ import annotations

import pathlib

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import ManifestRow, read_header, read_positional_rows
from alignment_jax.data.sources.clips import existing_folder, find_list, picture_folder
from alignment_jax.data.sources.samples import Sample, labelled_sample_source
from alignment_jax.data.split import PairSource

# Headers without their numbers -> names of the columns.
_LAYOUTS = {
    ("index", "Label", "ImageID", "String", "String"): ("index", "label", "image", "text", "target"),
    ("index", "ImageID", "String", "String"): ("label", "image", "text", "target"),
    ("index", "Label", "ImageID", "String"): ("index", "label", "image", "text"),
}
_SIGNED = {"-1": "negative", "0": "neutral", "1": "positive"}
_NUMBERED = {"0": "negative", "1": "neutral", "2": "positive"}
IMAGE_FOLDERS = ("twitter2015_images", "images")


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of Twitter2015 in the layout of the module docstring: a is the image, b the text.

    Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    bad = BadSamples(on_bad_sample)
    folder = picture_folder(root, *IMAGE_FOLDERS)
    rows: list[tuple[ManifestRow, str]] = []
    for split, word in (("train", "train"), ("val", "dev"), ("test", "test")):
        path = find_list(root, f"{word}.tsv")
        if path is None:
            raise DataError(f"{root}: no {word}.tsv in it or in annotations/")
        rows += [(row, split) for row in _rows(path, bad)]
    known = _SIGNED if any(row.values["label"] == "-1" for row, _ in rows) else _NUMBERED
    count: dict[str, int] = {}

    def sample(listed: tuple[ManifestRow, str]) -> Sample:
        row, split = listed
        label, image, text, target = (row.values.get(key, "") for key in ("label", "image", "text", "target"))
        if label not in known:
            raise DataError(f"{row.where}: the class must be one of {', '.join(known)}, found {label!r}")
        if not text:
            raise DataError(f"{row.where}: no text")
        # An image has one row per target of its tweet.
        count[image] = count.get(image, 0) + 1
        name = image if count[image] == 1 else f"{image} {count[image]}"
        parts = (folder.find(image, where=row.where), f"{target} | {text}" if target else text)
        return Sample(name, known[label], split, parts, row.where)

    return labelled_sample_source(
        rows, sample, kinds=("image", "text"), modalities=("image", "text"), name="twitter2015", where=root, bad=bad
    )


def _rows(path: pathlib.Path, bad: BadSamples) -> list[ManifestRow]:
    header = read_header(path, tabs=True)
    # "#1 Label" is "Label"; pandas renames the second of two equal names.
    plain = tuple(name.rpartition(" ")[2].removesuffix(".1") for name in header)
    if plain not in _LAYOUTS:
        raise DataError(
            f"{path}: unknown columns {', '.join(header)[:200]!r}; expected index, #1 Label, #2 ImageID, ..."
        )
    return read_positional_rows(path, _LAYOUTS[plain], bad=bad, tabs=True, header=True)
