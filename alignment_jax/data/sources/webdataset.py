"""`webdataset:DIR`: images with captions in tar shards, as img2dataset and open_clip write them.

  DIR/**/*.tar      000000012.jpg (or jpeg, png, webp) with 000000012.txt, or 000000012.json that holds "caption"

A shard whose name or folder says train, val (validation) or test belongs to that split. Nothing is unpacked: an index
of the archives is made when the data set is opened, and pictures are read where they lie.
"""

from __future__ import annotations

import json
import pathlib
import re

from alignment_jax.core.errors import DataError
from alignment_jax.data.collect import BadSamples
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.clips import existing_folder
from alignment_jax.data.split import PairSource, canonical_split
from alignment_jax.data.tars import FileSlice, index_shard

_IMAGES = ("jpg", "jpeg", "png", "webp")
_LONGEST = 1 << 20  # bytes of a caption with what is known of its picture


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of shards, laid out as the module says.

    Arguments and errors are those of `data.load`.
    """
    return load_shards(existing_folder(argument), on_bad_sample)


def load_shards(folder: pathlib.Path, on_bad_sample: str) -> PairSource:
    """The source of all shards in a folder and the folders in it."""
    shards = sorted(folder.rglob("*.tar"))
    if not shards:
        raise DataError(f"{folder}: no *.tar")
    bad = BadSamples(on_bad_sample)
    splits = {path: _split_of(path.relative_to(folder)) for path in shards}
    if None in splits.values() and len(set(splits.values())) > 1:
        unknown = next(path for path, split in splits.items() if split is None)
        raise DataError(f"{unknown}: no split in its name, but others have one; name it as in cc3m-train-0000.tar")
    captions: list[Caption] = []
    pictures: dict[str, FileSlice] = {}
    for path in shards:
        for key, files in index_shard(path, bad).items():
            picture = next((files[ending] for ending in _IMAGES if ending in files), None)
            name = f"{path.relative_to(folder).as_posix()}/{key}"
            if picture is None or not picture.size:
                bad.add(f"{path}: {key!r} has no picture ({', '.join(sorted(files))})")
                continue
            try:
                captions.append(Caption(name, _caption(path, key, files), splits[path], f"{path}: {key}"))
                pictures[name] = picture
            except DataError as error:
                bad.add(str(error))
    return captioned_source(
        captions, root=folder, name=str(folder), bad=bad, find=lambda name, *, where: pictures[name]
    )


def _split_of(path: pathlib.Path) -> str | None:
    words = re.findall(r"[a-z]+", path.as_posix().lower())
    found = {split for split in map(canonical_split, words) if split is not None}
    return found.pop() if len(found) == 1 else None


def _caption(path: pathlib.Path, key: str, files: dict[str, FileSlice]) -> str:
    where = f"{path}: {key!r}"
    file = files.get("txt") or files.get("json")
    if file is None or file.size > _LONGEST:
        raise DataError(f"{where} has no .txt and no .json with a caption")
    try:
        text = file.read_bytes().decode("utf-8")
        caption = text if "txt" in files else json.loads(text)["caption"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: no caption can be read from {file.name} ({type(error).__name__})") from error
    if not isinstance(caption, str):
        raise DataError(f"{where}: the caption in {file.name} is no text")
    return " ".join(caption.split())
