"""`karpathy:DIR`: Karpathy's splits (Flickr8k, Flickr30k, COCO): one dataset_*.json and the image folder.

The file holds `{"images": [{"filename": ..., "filepath": ... (COCO), "split": ..., "sentences": [{"raw": ...}]}]}`;
split "restval" counts as train.
"""

from __future__ import annotations

import pathlib
from typing import Any

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import read_json
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.flickr import IMAGE_FOLDERS
from alignment_jax.data.split import PairSource


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder with dataset_*.json.

    Args:
      argument: the folder.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Raises:
      DataError: not exactly one dataset_*.json, it is damaged, or, with "error", an entry is unusable.
    """
    folder = pathlib.Path(argument)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(folder.glob("dataset_*.json")) or sorted(folder.glob("dataset.json"))
    if len(found) != 1:
        raise DataError(
            f"{folder}: expected exactly one dataset_*.json, found {', '.join(path.name for path in found) or 'none'}"
        )
    bad = BadSamples(on_bad_sample)
    captions: list[Caption] = []
    for number, entry in enumerate(_images(found[0])):
        captions += _captions(found[0], number, entry, bad)
    names = dict.fromkeys(caption.image for caption in captions)
    root = _image_root(folder, next(iter(names), ""))
    return captioned_source(captions, root=root, name=str(folder), bad=bad)


def _images(path: pathlib.Path) -> list[Any]:
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise DataError(f'{path}: expected an object with a list "images" that is not empty')
    return images


def _captions(path: pathlib.Path, number: int, entry: Any, bad: BadSamples) -> list[Caption]:
    where = f"{path}, row {number}"
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    filename, split, sentences = fields.get("filename"), fields.get("split"), fields.get("sentences")
    filepath = fields.get("filepath") or ""
    if not (
        isinstance(filename, str)
        and isinstance(filepath, str)
        and isinstance(split, str)
        and isinstance(sentences, list)
    ):
        bad.add(f"{where}: expected filename, split and sentences")
        return []
    name = str(pathlib.PurePath(filepath) / filename)
    if not sentences:
        bad.add(f"{where}: {name!r} has no sentences")
    found = []
    for k, sentence in enumerate(sentences):
        raw = sentence.get("raw") if isinstance(sentence, dict) else None
        if raw is None and isinstance(sentence, dict) and isinstance(sentence.get("tokens"), list):
            raw = " ".join(map(str, sentence["tokens"]))
        if isinstance(raw, str):
            found.append(Caption(name, raw.strip(), split, f"{where}, sentence {k}"))
        else:
            bad.add(f"{where}, sentence {k}: expected raw or tokens")
    return found


def _image_root(folder: pathlib.Path, example: str) -> pathlib.Path:
    """The folder of the images: the one with the first image, else the first that exists."""
    existing = [folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()]
    candidates = [*existing, folder]
    return next((root for root in candidates if _is_file(root / example)), candidates[0])


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # not a valid file name; its row is reported later
        return False
