"""`webdataset:SHARDS`: images with captions in tar shards, as img2dataset and open_clip write them.

SHARDS is a folder (searched recursively), a file, a pattern (`shards/{00000..00012}.tar`, `shards/*.tar`), or several
joined by `::`. `webdataset:train=SHARDS,val=SHARDS` sets the shards of each split; otherwise, train, val (validation)
or test in the name or folder of a shard is its split.

The files of a sample share a name: an image (jpg, jpeg, png, webp, ..., img, also input.jpg) and a text (txt, text,
caption, cap, also outputs.txt) with one caption per line, or a json with a field such as caption, captions or text. If
there are several, choose with `image=EXTENSION`, `caption=EXTENSION` or `caption=FIELD`.

Archives are not unpacked: opening builds an index, and images are read in place. The index is kept in
~/.cache/alignment_jax until the archive changes.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.file_patterns import matching_files
from alignment_jax.data.sample_files import IMAGES, RECORDINGS, kinds_of, sample_captions, sample_image
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import SPLITS, PairSource, canonical_split
from alignment_jax.data.tars import FileSlice, samples_of, shard_files

OPTIONS = dict.fromkeys(("image", "caption", *SPLITS), "")
_UNPACKED_BY = {".zst": "unzstd", ".bz2": "bunzip2", ".xz": "unxz"}
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


class _Sample(NamedTuple):
    shard: pathlib.Path
    key: str
    files: dict[str, FileSlice]


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens shards; see the module docstring for names and layout.

    Arguments and errors are those of `data.load`.
    """
    first, options = path_and_options(argument, OPTIONS, what="webdataset")
    parts = {split: options[split] for split in SPLITS if options[split]}
    if bool(first) == bool(parts):
        raise ConfigError(
            f"webdataset:{argument}: name shards, as in webdataset:shards/{{00000..00012}}.tar, or those of each "
            "split, as in webdataset:train=SHARDS,val=SHARDS"
        )
    shards = {split: find_shards(each) for split, each in (parts or {"": first}).items()}
    every = [path for each in shards.values() for path in each]
    root = pathlib.Path(first)
    if not root.is_dir():
        root = pathlib.Path(os.path.commonpath([path.parent.absolute() for path in every]))
    splits: dict[pathlib.Path, str | None] = {}
    for split, each in shards.items():
        for path in each:
            if path in splits:
                raise DataError(f"{path}: a shard of both {splits[path]} and {split}; name it in one of them")
            splits[path] = split or _split_of(_relative(path, root))
    return _load(splits, root, argument, BadSamples(on_bad_sample), options["image"], options["caption"])


def load_shards(folder: pathlib.Path, on_bad_sample: str) -> PairSource:
    """The source of all shards in a folder, searched recursively."""
    splits = {path: _split_of(_relative(path, folder)) for path in find_shards(str(folder))}
    return _load(splits, folder, str(folder), BadSamples(on_bad_sample))


def find_shards(name: str) -> list[pathlib.Path]:
    """The shards of a folder, a file or a pattern.

    Raises:
      DataError: there are none, some are missing, or they are compressed or remote.
    """
    if name.startswith("pipe:") or re.match(r"[a-z0-9]+://", name):
        raise DataError(f"{name}: remote shards are not supported; copy them to a folder and write webdataset:DIR")
    folder = pathlib.Path(name)
    if not folder.is_dir():
        return matching_files(name, what="shards")
    # Broken links are kept: opening them reports the error.
    found = sorted(path for path in folder.rglob("*.tar") if not path.is_dir())
    packed = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(_PACKED))
    left = [path for path in packed if path.with_name(path.name.partition(".tar")[0] + ".tar") not in found]
    if left:
        raise DataError(
            f"{left[0]}: a compressed shard, but images are read in place; decompress it, as with "
            f"{_UNPACKED_BY.get(left[0].suffix.lower(), 'gunzip')} {left[0]}"
            + (f" ({len(left)} such shards)" if len(left) > 1 else "")
        )
    if not found:
        raise DataError(f"{folder}: no *.tar files; for images with text files write folder:{folder}")
    return found


def _load(
    splits: dict[pathlib.Path, str | None],
    root: pathlib.Path,
    name: str,
    bad: BadSamples,
    image: str = "",
    caption: str = "",
) -> PairSource:
    if None in splits.values() and len(set(splits.values())) > 1:
        unknown = next(path for path, split in splits.items() if split is None)
        raise DataError(f"{unknown}: no split in its name, but others have one; name it as in cc3m-train-0000.tar")
    samples, notes = _samples(splits, bad, image, caption)
    _refuse_other_kinds(samples, name)
    captions: list[Caption] = []
    images: dict[str, FileSlice] = {}
    several = 0
    shard_names = {path: _relative(path, root).as_posix() for path in splits}
    for path, key, files in samples:
        where, item = f"{path}: {key!r}", f"{shard_names[path]}/{key}"
        try:
            images[item] = sample_image(files, where=where, named=image.lower())
            texts = sample_captions(files, where=where, named=caption)
        except DataError as error:
            bad.add(str(error))
            continue
        several += len(texts) > 1
        captions += [Caption(item, text, splits[path], f"{path}: {key}") for text in texts]
    if several:
        notes.append(f"samples with several captions (lines of a text, lists in a json): {several} of {len(samples)}")
    return captioned_source(
        captions, root=root, name=name, bad=bad, notes=notes, find=lambda item, *, where: images[item]
    )


def _samples(
    shards: Iterable[pathlib.Path], bad: BadSamples, image: str, caption: str
) -> tuple[list[_Sample], list[str]]:
    """The samples of all shards, and notes. Names are split at the last dot if only that pairs the files."""
    files = {path: shard_files(path, bad) for path in shards}

    def cut(found: BadSamples, *, last_dot: bool) -> list[_Sample]:
        each = ((path, samples_of(of_shard, found, last_dot=last_dot)) for path, of_shard in files.items())
        return [_Sample(path, key, of_key) for path, samples in each for key, of_key in samples.items()]

    problems, other = BadSamples("skip"), BadSamples("skip")
    samples, notes = cut(problems, last_dot=False), []
    if not image and any(sum(ending.rpartition(".")[2] in IMAGES for ending in each.files) > 1 for each in samples):
        dotted = cut(other, last_dot=True)
        if len(dotted) > len(samples) and all(_is_whole(each.files) for each in dotted):
            samples, problems = dotted, other
            notes.append(
                f"names with dots, such as {dotted[0].key!r}, are split at the last dot: {len(dotted)} samples"
            )
    for line in problems.finish():
        bad.add(line)
    return samples, notes


def _is_whole(files: dict[str, FileSlice]) -> bool:
    try:
        return bool(sample_image(files, where="") and sample_captions(files, where=""))
    except DataError:
        return False


def _refuse_other_kinds(samples: list[_Sample], name: str) -> None:
    """Raises one DataError for shards of other data, instead of one problem per sample."""
    endings = {ending.rpartition(".")[2] for each in samples for ending in each.files}
    if not samples or endings & set(IMAGES):
        if endings and endings <= {*IMAGES, "cls"} and "cls" in endings:
            raise DataError(
                f"{name}: classes (.cls), no captions: unpack the shards (tar -xf), list the images and their class "
                "names in a table with the columns image and label, and write labelled:FILE.csv"
            )
        return
    held = f"{name}: no images in {len(samples)} samples, which have {kinds_of(each.files for each in samples)}"
    if endings & set(RECORDINGS):
        raise DataError(f"{held}; for recordings, unpack the shards (tar -xf) and list the files in a table")
    raise DataError(f"{held}; if one of them is the image, write ,image=EXTENSION after the shards")


def _relative(path: pathlib.Path, root: pathlib.Path) -> pathlib.PurePath:
    return pathlib.PurePath(os.path.relpath(path, root))


def _split_of(path: pathlib.PurePath) -> str | None:
    words = re.findall(r"[a-z]+", path.as_posix().lower())
    found = {split for split in map(canonical_split, words) if split is not None}
    return found.pop() if len(found) == 1 else None
