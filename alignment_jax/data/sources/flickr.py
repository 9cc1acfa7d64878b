"""`flickr:DIR`: Flickr8k and Flickr30k in their common folder layouts.

Captions, the first existing file of:
  captions.txt      CSV with the header image,caption (Flickr8k as a public archive)
  captions.txt      CSV with the header image_name,comment_number,comment, or the same set off by "| "
  results.csv       image_name| comment_number| comment (Flickr30k as a public archive)
  *.token.txt, *.token   image.jpg#0<TAB>caption (the authors' archives), also in Flickr8k_text/

Images in Images/, or another of the folders in `IMAGE_FOLDERS`. Splits, optional: splits.csv with the columns
image,split, or the authors' lists Flickr_8k.trainImages.txt, .devImages.txt and .testImages.txt; images in none of
these lists are skipped, as in the published protocol.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import read_table, read_text_lines
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.split import PairSource

IMAGE_FOLDERS = (
    "Images",
    "images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr30k_images",
    "flickr30k-images",
)
_BARRED = re.compile(r"^(?P<image>[^|]+?)\s*\|\s*(?P<number>\d+)\s*(?:\|\s*|\s+)(?P<caption>.*)$")


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a Flickr8k or Flickr30k folder.

    Args:
      argument: the folder.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Raises:
      DataError: no captions or no images, or, with "error", a row is unusable.
    """
    folder = pathlib.Path(argument)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
    if images is None:
        raise DataError(f"{folder}: no image folder; looked for {', '.join(IMAGE_FOLDERS)}")
    if (images / images.name).is_dir():  # a public archive of Flickr30k has a nested folder of the same name
        images = images / images.name
    bad = BadSamples(on_bad_sample)
    captions = list(_captions(folder, bad))
    splits, listed_by, complete = _splits(folder, bad)
    notes = []
    if splits is not None:
        missing = [c for c in captions if c.image not in splits]
        if complete:
            for image, where in {c.image: c.where for c in reversed(missing)}.items():
                bad.add(f"{where}: {image!r} is not in {listed_by}")
        elif missing:
            count = len({caption.image for caption in missing})
            notes.append(f"skipped images that are in none of the lists {listed_by}: {count}")
        for image in sorted(set(splits) - {c.image for c in captions}):
            bad.add(f"{listed_by}: {image!r} has no caption")
        captions = [c._replace(split=splits[c.image]) for c in captions if c.image in splits]
    return captioned_source(captions, root=images, name=str(folder), bad=bad, notes=notes)


def _captions(folder: pathlib.Path, bad: BadSamples) -> Iterable[Caption]:
    for name in ("captions.txt", "captions.csv", "results.csv"):
        path = folder / name
        if path.is_file():
            header = read_text_lines(path)[0]
            if "|" in header:
                return _barred(path, bad)
            if "comment" in header:
                rows, _ = read_table(path, required=("image_name", "comment"), optional=("comment_number",), bad=bad)
                return [Caption(r.values["image_name"], r.values["comment"], None, r.where) for r in rows]
            rows, _ = read_table(path, required=("image", "caption"), bad=bad)
            return [Caption(row.values["image"], row.values["caption"], None, row.where) for row in rows]
    for place in (folder, folder / "Flickr8k_text"):
        for path in (*sorted(place.glob("*.token.txt")), *sorted(place.glob("*.token"))):
            if "lemma" not in path.name.lower():
                return _tokens(path, bad)
    raise DataError(f"{folder}: no captions.txt (header image,caption), results.csv or *.token.txt")


def _barred(path: pathlib.Path, bad: BadSamples) -> Iterable[Caption]:
    """`image| number| caption`; the pattern allows for one row of the public file without its second bar."""
    for number, line in enumerate(read_text_lines(path)[1:], start=1):
        where = f"{path}, row {number} (line {number + 1})"
        match = _BARRED.match(line)
        if match:
            yield Caption(match["image"].strip(), match["caption"].strip(), None, where)
        elif line.strip():
            bad.add(f"{where}: expected image| number| caption, found {line[:60]!r}")


def _tokens(path: pathlib.Path, bad: BadSamples) -> Iterable[Caption]:
    for number, line in enumerate(read_text_lines(path), start=1):
        name, tab, caption = line.partition("\t")
        image, mark, _ = name.rpartition("#")
        if tab and mark:
            yield Caption(image.strip(), caption.strip(), None, f"{path}, row {number} (line {number})")
        elif line.strip():
            bad.add(f"{path}, row {number} (line {number}): expected image#number<TAB>caption, found {line[:60]!r}")


def _splits(folder: pathlib.Path, bad: BadSamples) -> tuple[dict[str, str] | None, str, bool]:
    """`(image -> split or None, name of the list, whether every image must be listed)`."""
    path = folder / "splits.csv"
    if path.is_file():
        splits: dict[str, str] = {}
        rows, _ = read_table(path, required=("image", "split"), bad=bad)
        for row in rows:
            image = row.values["image"]
            if splits.setdefault(image, row.values["split"]) != row.values["split"]:
                bad.add(f"{row.where}: {image!r} is in split {row.values['split']!r} and in {splits[image]!r}")
        return splits, str(path), True
    for place in (folder, folder / "Flickr8k_text"):
        lists = {
            split: path
            for split, word in (("train", "train"), ("val", "dev"), ("test", "test"))
            for path in sorted(place.glob(f"*[._]{word}Images.txt"))[:1]
        }
        if "train" in lists:
            splits = {}
            for split, path in lists.items():
                for image in filter(None, (line.strip() for line in read_text_lines(path))):
                    if splits.setdefault(image, split) != split:
                        bad.add(f"{path}: {image!r} is also in the list of {splits[image]}")
            return splits, ", ".join(path.name for path in lists.values()), False
    return None, "", False
