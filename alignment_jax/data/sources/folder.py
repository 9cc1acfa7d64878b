"""`folder:DIR`: a folder of images, with captions or classes in common layouts.

  DIR/**/1.jpg, 1.txt or 1.json        a text file per image: one caption per line, or fields caption, captions, text;
                                       also images/1.jpg with captions/1.txt, and img2dataset's numbered folders
  DIR/**/metadata.jsonl                an image folder of Hugging Face (also .csv, .parquet)
  DIR/[train/]CLASS/1.jpg              classes: the text of an image is the name of its folder, see `labelled`
  DIR/*.tar                            shards, see `webdataset`
  DIR/*.parquet                        tables that hold the images, of img2dataset or Hugging Face

Folders and Parquet files named train, val or test are these splits. `caption=FIELD` names a field of the JSON files or
a column.
"""

from __future__ import annotations

import pathlib

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.folder_files import METADATA, Item, classes_of, files_below, is_image, items_of, split_of
from alignment_jax.data.folder_kinds import refuse_other_kinds
from alignment_jax.data.sample_files import sample_captions, sample_image
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.clips import existing_folder
from alignment_jax.data.sources.folder_tables import load_tables
from alignment_jax.data.sources.labelled import labelled_image_source
from alignment_jax.data.sources.webdataset import load_shards
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import PairSource

OPTIONS = {"image": "", "caption": ""}


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder in one of the layouts of the module docstring.

    Arguments and errors are those of `data.load`.
    """
    name, options = path_and_options(argument, OPTIONS, what="folder")
    root = existing_folder(name)
    files = files_below(root)
    tables = [path for path in files if path.name.lower() in METADATA]
    images = [path for path in files if is_image(path)]
    if not images and not tables:
        if any(path.suffix.lower() == ".tar" for path in files):
            return load_shards(root, on_bad_sample)
        tables = [path for path in files if path.suffix.lower() == ".parquet"]
    refuse_other_kinds(root, files, images, tables=bool(tables))
    bad = BadSamples(on_bad_sample)
    if tables:
        return load_tables(root, tables, bad, images, options)
    items, left = items_of(files)
    if any(_has_text(item) for item in items):
        return _beside(root, items, left, bad, options)
    return _classes(root, images, left, bad)


def _beside(
    root: pathlib.Path, items: list[Item], left: list[pathlib.PurePath], bad: BadSamples, options: dict[str, str]
) -> PairSource:
    folder, captions, several = Folder(root), [], 0
    splits = _splits([item.image for item in items], root)
    for item in items:
        name, where = item.image.as_posix(), str(root / item.image)
        try:
            if not _has_text(item):
                raise DataError(f"{where}: no caption; write it to {item.image.stem}.txt")
            files = {ending: folder.find(str(path), where=str(root / path)) for ending, path in item.files.items()}
            if sample_image(files, where=where, named=options["image"].lower()) != root / item.image:
                continue  # another file of this name is the image
            texts = sample_captions(files, where=where, named=options["caption"])
        except DataError as error:
            bad.add(str(error))
            continue
        several += len(texts) > 1
        captions += [Caption(name, text, splits[item.image], where) for text in texts]
    notes = []
    if several:
        notes.append(f"images with several captions (lines of a text, lists in a json): {several} of {len(items)}")
    if left := [path for path in left if not path.name.endswith("_stats.json")]:
        notes.append(f"unused text files without an image of the same name: {len(left)}, first {root / left[0]}")
    return captioned_source(captions, root=root, name=str(root), bad=bad, notes=notes)


def _classes(
    root: pathlib.Path, images: list[pathlib.PurePath], left: list[pathlib.PurePath], bad: BadSamples
) -> PairSource:
    classes = classes_of(images)
    found = {each for each in classes.values() if each is not None}
    if len(found) < 2:
        raise DataError(
            f"{root}: {len(images)} images without captions: write the caption of NAME{images[0].suffix} to NAME.txt, "
            f"or use a table with pairs:FILE,root={root}; to embed only the images, use images:{root} with "
            "alignment-jax embed"
        )
    splits = _splits(images, root)
    captions = []
    for path in images:
        if classes[path] is None:
            bad.add(f"{root / path}: not in a class folder, but others are ({', '.join(sorted(found)[:4])})")
        else:
            captions.append(Caption(path.as_posix(), classes[path] or "", splits[path], str(root / path)))
    notes = [f"no captions: the text of an image is its folder name, {len(found)} classes"]
    if left:
        notes.append(f"unused text files: {len(left)}, first {root / left[0]}")
    return labelled_image_source(captions, root=root, name=str(root), bad=bad, notes=notes)


def _has_text(item: Item) -> bool:
    return any(not is_image(path) for path in item.files.values())


def _splits(images: list[pathlib.PurePath], root: pathlib.Path) -> dict[pathlib.PurePath, str | None]:
    """The split of each image.

    Raises:
      DataError: only some images are in a split folder.
    """
    splits = {path: split_of(path) for path in images}
    if None in splits.values() and any(splits.values()):
        unknown = next(path for path, split in splits.items() if split is None)
        raise DataError(
            f"{root / unknown}: not in a split folder, but others are; move it to train, val or test, or use only "
            f"one of these folders, as in folder:{root / next(p for p, s in splits.items() if s).parent}"
        )
    return splits
