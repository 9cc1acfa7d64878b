"""`coco:DIR[,year=2017]`: MS-COCO captions in the official files.

  annotations/captions_train2017.json, captions_val2017.json      (or directly in DIR)
  train2017/000000391895.jpg, val2017/...                         (or in images/)

The captions of the official test images are not published: the official validation set is the test set here, and val is
cut out of train by a hash of the names. (`karpathy:DIR` reads Karpathy's split, with 5,000 images each.)
"""

from __future__ import annotations

import pathlib

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import read_json
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.clips import existing_folder, find_list
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import PairSource

OPTIONS = {"year": 2017}
_YEARS = (2014, 2017)


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of MS-COCO in the layout of the module docstring.

    Arguments and errors are those of `data.load`.
    """
    root, options = path_and_options(argument, OPTIONS, what="coco")
    year = options["year"]
    if year not in _YEARS:
        raise ConfigError(f"coco: year={year} must be one of {', '.join(map(str, _YEARS))}")
    folder, bad = existing_folder(root), BadSamples(on_bad_sample)
    captions: list[Caption] = []
    for part, split in (("train", "train"), ("val", "test")):
        path = find_list(folder, f"captions_{part}{year}.json")
        if path is None:
            raise DataError(f"{folder}: no captions_{part}{year}.json in it or in annotations/")
        captions += _captions(path, _image_folder(folder, f"{part}{year}"), split, bad)
    return captioned_source(captions, root=folder, name=str(folder), bad=bad)


def _image_folder(folder: pathlib.Path, name: str) -> str:
    for place in (name, f"images/{name}"):
        if (folder / place).is_dir():
            return place
    raise DataError(f"{folder}: no folder {name} with the images in it or in images/")


def _captions(path: pathlib.Path, images: str, split: str, bad: BadSamples) -> list[Caption]:
    content = read_json(path)
    listed, annotations = ((content.get(n) if isinstance(content, dict) else None) for n in ("images", "annotations"))
    if not (isinstance(listed, list) and listed and isinstance(annotations, list) and annotations):
        raise DataError(f'{path}: expected an object with lists "images" and "annotations" that are not empty')
    names: dict[int, str] = {}
    for row, image in enumerate(listed):
        match image:
            case {"id": int(number), "file_name": str(name)} if name and number not in names:
                names[number] = f"{images}/{name}"
            case {"id": int(number)} if number in names:
                bad.add(f"{path}, images row {row}: id {number} occurs twice")
            case _:
                bad.add(f"{path}, images row {row}: expected id and file_name")
    found = []
    for row, annotation in enumerate(annotations):
        where = f"{path}, annotations row {row}"
        match annotation:
            case {"image_id": int(number), "caption": str(caption)} if number in names:
                found.append(Caption(names[number], " ".join(caption.split()), split, where))
            case {"image_id": int(number), "caption": str()}:
                bad.add(f"{where}: image_id {number} is not among the images")
            case _:
                bad.add(f"{where}: expected image_id and caption")
    described = {caption.image for caption in found}
    for name in names.values():
        if name not in described:
            bad.add(f"{path}: {name!r} has no caption")
    return found
