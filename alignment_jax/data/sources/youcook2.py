"""`youcook2:DIR`: YouCook2, steps of recipes in cooking videos with a sentence each.

  youcookii_annotations_trainval.json         (also in annotations/), as published:
      {"database": {VIDEO: {"subset": "training", "duration": 241.6, "recipe_type": "113",
                            "annotations": [{"id": 0, "segment": [90, 102], "sentence": "spread ..."}]}}}
Features of the videos or of their steps, the first existing file of:
  features/VIDEO_ID.npy                       of one step: [d] or [frames, d]
  features/VIDEO.npy                          of a whole video: [frames, d], evenly spaced frames
  train_frame_feat_csv/RECIPE/VIDEO/0001/resnet_34_feat_mscoco.csv, val_frame_feat_csv/...      as published

The features of a step are averaged over the frames of its segment. "validation" is the test set, as in retrieval
papers; val is cut out of train by a hash of the names.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.array_files import read_array
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn, TextColumn
from alignment_jax.data.manifest_rows import Folder, read_json
from alignment_jax.data.sources.clips import existing_folder, find_list
from alignment_jax.data.split import PairSource, PairSplit, split_by_name

_LIST = "youcookii_annotations_trainval.json"
_SPLITS = {"training": ("train", "train_frame_feat_csv"), "validation": ("test", "val_frame_feat_csv")}


class _Step(NamedTuple):
    video: str
    number: int
    first: float
    last: float
    duration: float
    sentence: str
    recipe: str
    split: str
    published: str
    where: str


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of YouCook2 in the layout of the module docstring: a is the step of a video, b its sentence.

    The recipe is the class of a step. Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    path = find_list(root, _LIST)
    if path is None:
        raise DataError(f"{root}: no {_LIST} in it or in annotations/")
    bad, folder = BadSamples(on_bad_sample), Folder(root)
    steps: list[_Step] = []
    vectors: list[np.ndarray] = []
    cache: dict[pathlib.Path, np.ndarray] = {}
    for step in _steps(path, bad):
        try:
            vector = _features(folder, step, cache)
            if vectors and vector.shape != vectors[0].shape:
                raise DataError(f"{step.where}: features of {len(vector)} numbers, but others have {len(vectors[0])}")
            steps.append(step)
            vectors.append(vector)
        except DataError as error:
            bad.add(str(error))
    problems = bad.finish()
    if not steps:
        raise DataError(f"{root}: no usable step" + (f"; first problem: {problems[0]}" if problems else ""))
    label, names = number_classes([step.recipe for step in steps])
    sentences = TextColumn(tuple(step.sentence for step in steps), tuple(step.where for step in steps))
    whole = PairSplit(
        a=ArrayColumn(np.stack(vectors), name=f"{root}: features of the steps"),
        b=sentences,
        b_to_a=np.arange(len(steps), dtype=np.int32),
        ids=np.array([f"{step.video}_{step.number}" for step in steps]),
        label=label,
    )
    splits, has_splits = split_by_name(whole, [step.split for step in steps])
    return PairSource(
        "youcook2",
        f"youcook2:{argument}",
        splits,
        has_splits,
        problems,
        label_names=names,
        modalities=("video", "text"),
    )


def _steps(path: pathlib.Path, bad: BadSamples) -> Iterator[_Step]:
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise DataError(f'{path}: expected an object "database" that is not empty')
    for video, entry in database.items():
        match entry:
            case {"subset": str(subset), "duration": int() | float() as duration, "annotations": list(annotations)}:
                if subset not in _SPLITS:
                    bad.add(f"{path}, video {video!r}: unknown subset {subset!r}; known: {', '.join(_SPLITS)}")
                    continue
            case _:
                bad.add(f"{path}, video {video!r}: expected subset, duration and annotations")
                continue
        split, published = _SPLITS[subset]
        recipe, seen = str(entry.get("recipe_type", "unknown")), set[int]()
        for row, annotation in enumerate(annotations):
            where = f"{path}, video {video!r}, step {row}"
            fault = _fault(annotation, duration, seen)
            if fault:
                bad.add(f"{where}: {fault}")
                continue
            first, last = annotation["segment"]
            number, sentence = annotation["id"], " ".join(annotation["sentence"].split())
            seen.add(number)
            yield _Step(video, number, first, last, duration, sentence, recipe, split, published, where)


def _fault(annotation: Any, duration: float, seen: set[int]) -> str:
    match annotation:
        case {"id": int(number), "segment": [int() | float() as first, int() | float() as last], "sentence": str(text)}:
            if number in seen:
                return f"id {number} occurs twice"
            if not 0 <= first < last < math.inf or not first < duration < math.inf:
                return f"segment [{first}, {last}] is outside of a video of {duration} seconds"
            return "" if text.strip() else "no sentence"
    return "expected id, segment and sentence"


def _features(folder: Folder, step: _Step, cache: dict[pathlib.Path, np.ndarray]) -> np.ndarray:
    published = f"{step.published}/{step.recipe}/{step.video}/0001/resnet_34_feat_mscoco.csv"
    own = f"features/{step.video}_{step.number}.npy"
    of_video = f"features/{step.video}.npy"
    name = next((name for name in (own, of_video, published) if folder.has(name)), own)
    path = folder.find(name, where=step.where)
    if path not in cache:
        cache.clear()  # the steps of a video are consecutive
        cache[path] = read_array(path)
    frames = cache[path]
    if frames.dtype.kind != "f" or frames.ndim not in ((1, 2) if name == own else (2,)) or 0 in frames.shape:
        expected = "[d] or [frames, d]" if name == own else "[frames, d]"
        raise DataError(f"{step.where}: {path} must be floating point {expected}, got {frames.dtype} {frames.shape}")
    if frames.ndim == 2:
        chosen = frames
        if name != own:
            # Frame k of n covers the time from k/n to (k + 1)/n of the video; use at least one frame.
            scale = len(frames) / step.duration
            start = min(int(step.first * scale), len(frames) - 1)
            chosen = frames[start : max(start + 1, int(np.ceil(step.last * scale)))]
        frames = chosen.mean(axis=0, dtype=np.float32)
    vector = np.asarray(frames, np.float32)
    if not np.isfinite(vector).all():
        raise DataError(f"{step.where}: {path} holds numbers that are not finite")
    return vector
