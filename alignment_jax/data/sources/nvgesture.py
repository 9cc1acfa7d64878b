"""`nvgesture:DIR`: NVGesture, 25 hand gestures in colour, optical flow and depth.

  nvgesture_train_correct_cvpr2016_v2.lst, nvgesture_test_correct_cvpr2016_v2.lst      as published, one clip per line:
      path:./Video_data/class_01/subject13_r0 depth:sk_depth:138:218 color:sk_color:138:218 duo_left:... label:1
  Video_data/class_01/subject13_r0/sk_color.npy, sk_flow.npy, sk_depth.npy     features [d] or [frames, d], or
  Video_data/class_01/subject13_r0/sk_color/, sk_flow/, sk_depth/              frames, numbered (also sk_color_all/)

Of numbered frames only those of the gesture are used: from the first number in the list up to, not including, the
second. Features are averaged over frames. The published videos (sk_color.avi) must be converted to one of the two.
"""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.array_files import read_array
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.frames import frame_files
from alignment_jax.data.manifest_rows import Folder, read_text_lines
from alignment_jax.data.sources.clips import existing_folder, find_list
from alignment_jax.data.sources.samples import Sample, labelled_sample_source
from alignment_jax.data.split import PairSource

# modality, its folder, the sensor in the list with the frame range of the gesture
_SENSORS = (("color", "sk_color", "color"), ("flow", "sk_flow", "color"), ("depth", "sk_depth", "depth"))
_SPAN = re.compile(r"^\w+:(\d+):(\d+)$")


class _Line(NamedTuple):
    fields: dict[str, str]
    split: str
    where: str


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of NVGesture in the layout of the module docstring: a is colour, b optical flow, c depth.

    Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    folder, bad = Folder(root), BadSamples(on_bad_sample)
    lines: list[_Line] = []
    for split in ("train", "test"):
        names = [f"nvgesture_{split}_correct{part}_v2.lst" for part in ("_cvpr2016", "")]
        path = find_list(root, *names)
        if path is None:
            raise DataError(f"{root}: no {names[0]}")
        for number, text in enumerate(read_text_lines(path), start=1):
            if text:
                fields = dict(part.split(":", 1) for part in text.split() if ":" in part)
                lines.append(_Line(fields, split, f"{path}, line {number}"))
    as_features = bool(lines) and _has_features(folder, lines[0].fields.get("path", ""))

    def sample(line: _Line) -> Sample:
        name, label = line.fields.get("path", ""), line.fields.get("label", "")
        if not name or not label.isdigit():
            raise DataError(f"{line.where}: expected path:... and label:NUMBER")
        name = str(pathlib.PurePosixPath(name))
        part = _features if as_features else _frames
        parts = tuple(part(folder, name, *sensor, line) for sensor in _SENSORS)
        return Sample(name, label, line.split, parts, line.where)

    kind = "features" if as_features else "frames"
    return labelled_sample_source(
        lines,
        sample,
        kinds=(kind,) * len(_SENSORS),
        modalities=[modality for modality, _, _ in _SENSORS],
        name="nvgesture",
        where=root,
        bad=bad,
        hints={"flip": False},  # gestures to the left and to the right are different classes
    )


def _has_features(folder: Folder, name: str) -> bool:
    return folder.has(f"{name}/sk_color.npy")


def _features(folder: Folder, name: str, modality: str, stem: str, sensor: str, line: _Line) -> np.ndarray:
    path = folder.find(f"{name}/{stem}.npy", where=line.where)
    array = read_array(path)
    if array.ndim not in (1, 2) or array.dtype.kind != "f" or 0 in array.shape:
        raise DataError(
            f"{line.where}: {path} must be floating point [d] or [frames, d], got {array.dtype} {list(array.shape)}"
        )
    vector = np.asarray(array if array.ndim == 1 else array.mean(axis=0), np.float32)
    if not np.isfinite(vector).all():
        raise DataError(f"{line.where}: {path} holds numbers that are not finite")
    return vector


def _frames(folder: Folder, name: str, modality: str, stem: str, sensor: str, line: _Line) -> tuple[pathlib.Path, ...]:
    span = _SPAN.match(line.fields.get(sensor, ""))
    if span is None:
        raise DataError(f"{line.where}: expected {sensor}:FOLDER:FIRST:LAST")
    frame_folder = next((part for part in (stem, f"{stem}_all") if folder.has(f"{name}/{part}")), stem)
    files = frame_files(folder.find_folder(f"{name}/{frame_folder}", where=line.where), where=line.where)
    first, last = int(span[1]), int(span[2])
    chosen = tuple(path for path in files if path.stem.isdigit() and first <= int(path.stem) < last)
    if not chosen:
        raise DataError(f"{line.where}: no frame {first} to {last - 1} of {modality} in {frame_folder}/ of {name}")
    return chosen
