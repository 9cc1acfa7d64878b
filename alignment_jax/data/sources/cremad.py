"""`cremad:DIR`: CREMA-D, six emotions in speech and face.

  AudioWAV/1001_DFA_ANG_XX.wav                the recordings, as published
  Image-01-FPS/1001_DFA_ANG_XX/*.jpg          frames of each clip
  train.csv, test.csv, val.csv                optional lists, name,emotion without header, also in annotations/

Without lists all recordings are used, with the emotion from the file name; the splits are cut by hash.
"""

from __future__ import annotations

import re

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import Folder, ManifestRow, read_positional_rows
from alignment_jax.data.sources.clips import AUDIO, KINDS, MODALITIES, clip_parts, existing_folder, find_list
from alignment_jax.data.sources.samples import Sample, labelled_sample_source
from alignment_jax.data.split import PairSource

_NAME = re.compile(r"^\d{4}_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}$")


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of CREMA-D in the layout of the module docstring: a is the recording, b a frame of the clip.

    Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    folder, bad = Folder(root), BadSamples(on_bad_sample)
    lists = {split: find_list(root, f"{split}.csv") for split in ("train", "val", "test")}
    rows: list[tuple[ManifestRow, str | None]] = []
    for split, path in lists.items():
        if path is not None:
            rows += [(row, split) for row in read_positional_rows(path, ("name", "emotion"), bad=bad)]
    if not rows:
        found = sorted((root / AUDIO).glob("*.wav"))
        if not found:
            raise DataError(f"{root}: no train.csv and test.csv, and no recordings in {AUDIO}/")
        rows = [(ManifestRow({"name": path.stem, "emotion": ""}, f"{root}/{AUDIO}"), None) for path in found]

    def sample(listed: tuple[ManifestRow, str | None]) -> Sample:
        row, split = listed
        name, emotion = row.values["name"], row.values["emotion"]
        match = _NAME.match(name)
        if match is None:
            raise DataError(f"{row.where}: {name!r} is not a clip name such as 1001_DFA_ANG_XX")
        if emotion not in ("", match[1]):
            raise DataError(f"{row.where}: emotion {emotion!r} contradicts the name {name!r}")
        return Sample(name, match[1], split, clip_parts(folder, [name], where=row.where), row.where)

    return labelled_sample_source(rows, sample, kinds=KINDS, modalities=MODALITIES, name="cremad", where=root, bad=bad)
