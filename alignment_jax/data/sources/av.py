"""`av:FILE.csv`: one row a recording with its image, columns audio, image, label and, optionally, split.

The two belong together one to one. A label is any text. Paths are relative to the folder of the CSV file and must not
leave it; an audio file stands in one row only, the same image may stand in several.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.audio import AudioColumn, audio_faults
from alignment_jax.data.classes import number_classes
from alignment_jax.data.collect import BadSamples
from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.sources.captioned import image_faults
from alignment_jax.data.split import PairSource, PairSplit, canonical_split, split_by_name
from alignment_jax.data.tables import Folder, Row, read_table


@dataclasses.dataclass(frozen=True)
class _Sample:
    name: str
    audio: pathlib.Path
    image: pathlib.Path
    label: str
    split: str | None
    where: str


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a manifest of recordings and images.

    Args:
      argument: path of the CSV file.
      seed: not used.
      on_bad_sample: "error" or "skip"; skipping decodes every file once, to find those that cannot be read.

    Returns:
      The source: a is the audio, b the image, b-item i belongs to a-item i; `label_names` are the classes.

    Raises:
      DataError: the file or, without skipping, a row of it is unusable.
    """
    path = pathlib.Path(argument)
    bad = BadSamples(on_bad_sample)
    rows, others = read_table(path, required=("audio", "image", "label"), optional=("split",), bad=bad)
    folder = Folder(path.parent)
    samples: list[_Sample] = []
    seen: dict[str, str] = {}
    for row in rows:
        try:
            sample = _sample(folder, row)
            if sample.name in seen:
                raise DataError(f"{row.where}: {row.values['audio']!r} stands in {seen[sample.name]} already")
            seen[sample.name] = row.where
            samples.append(sample)
        except DataError as error:
            bad.add(str(error))
    audio, image = _columns(samples)
    if bad.skip:
        faults = {**dict(audio_faults(audio)), **dict(image_faults(image))}
        for line in faults.values():
            bad.add(line)
        samples = [sample for i, sample in enumerate(samples) if i not in faults]
        audio, image = _columns(samples, verified=True)
    problems = bad.settle()
    if not samples:
        first = f"; first: {problems[0]}" if problems else ""
        raise DataError(f"{path}: no usable row{first}")
    label, names = number_classes([sample.label for sample in samples])
    whole = PairSplit(
        a=audio,
        b=image,
        b_to_a=np.arange(len(samples), dtype=np.int32),
        ids=np.array([sample.name for sample in samples]),
        label=label,
    )
    splits, has_splits = split_by_name(
        whole, None if samples[0].split is None else [str(sample.split) for sample in samples]
    )
    return PairSource(
        "av",
        f"av:{argument}",
        splits,
        has_splits,
        problems,
        notes=(f"{path}: columns that are not used: {', '.join(others)}",) if others else (),
        label_names=names,
        hints={"flip": False},  # a mirrored digit or letter is another one
        modalities=("audio", "image"),
    )


def _sample(folder: Folder, row: Row) -> _Sample:
    label, split = row.values["label"], row.values.get("split")
    if not label:
        raise DataError(f"{row.where}: no label")
    known = None if split is None else canonical_split(split)
    if split is not None and known is None:
        raise DataError(f"{row.where}: unknown split {split!r}; known: train, val, test")
    audio, image = (folder.find(row.values[name], where=row.where) for name in ("audio", "image"))
    return _Sample(str(pathlib.PurePath(row.values["audio"])), audio, image, label, known, row.where)


def _columns(samples: list[_Sample], *, verified: bool = False) -> tuple[AudioColumn, ImageColumn]:
    where = tuple(sample.where for sample in samples)
    return (
        AudioColumn(tuple(sample.audio for sample in samples), where, verified),
        ImageColumn(tuple(sample.image for sample in samples), where, verified=verified),
    )
