"""`labelled:FILE.csv`: images with classes; columns image, label and, optionally, split.

The text of an image is its class name, so that training and evaluation work as with captions; `label` is the class, for
zero-shot classification. Training a classifier is refused, because the text reveals the class; `posts:FILE.csv` is for
images with texts. Paths are relative to the folder of the CSV file and must not leave it.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ImageFile
from alignment_jax.data.manifest_rows import read_table
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.split import PairSource


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a CSV file of images with classes.

    Args:
      argument: path of the CSV file.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Raises:
      DataError: the file is unusable, or, with "error", a row is unusable or an image has two rows ("skip" keeps the
        first).
    """
    path = pathlib.Path(argument)
    bad = BadSamples(on_bad_sample)
    rows, others = read_table(path, required=("image", "label"), optional=("split",), bad=bad)
    first: dict[str, str] = {}
    captions = []
    for row in rows:
        name, image = row.values["image"], str(pathlib.PurePath(row.values["image"]))
        if not name:
            bad.add(f"{row.where}: no file name")
        elif image in first:
            bad.add(f"{row.where}: {image!r} also has a label at {first[image]}; an image has one class")
        else:
            first[image] = row.where
            captions.append(Caption(name, row.values["label"], row.values.get("split"), row.where))
    notes = [f"{path}: unused columns: {', '.join(others)}"] if others else []
    return labelled_image_source(captions, root=path.parent, name=str(path), bad=bad, notes=notes)


def labelled_image_source(
    captions: Iterable[Caption],
    *,
    root: pathlib.Path | None = None,
    name: str,
    bad: BadSamples,
    notes: Iterable[str] = (),
    find: Callable[..., ImageFile] | None = None,
) -> PairSource:
    """The source of images whose only caption is their class name; arguments as for `captioned_source`."""
    source = captioned_source(captions, root=root, name=name, bad=bad, notes=notes, find=find)
    names = {name: split.b.read(split.pick_b(np.arange(len(split)))) for name, split in source.splits.items()}
    _, classes = number_classes([each for found in names.values() for each in found])
    number = {each: k for k, each in enumerate(classes)}
    splits = {
        name: split.replace(label=np.array([number[each] for each in names[name]], np.int32))
        for name, split in source.splits.items()
    }
    return dataclasses.replace(source, splits=splits, label_names=classes, from_label=("b",))
