"""`epic:DIR[,features=RGB+Flow][,count=noun]`: EPIC-KITCHENS-100 multi-instance retrieval.

Annotations as published, in DIR or DIR/retrieval_annotations:
  EPIC_100_retrieval_train.csv, EPIC_100_retrieval_test.csv     one row per clip
  EPIC_100_retrieval_test_sentence.csv                          the distinct captions, the columns of the matrix
  relevancy/caption_relevancy_EPIC_100_retrieval_test.pkl       (or .npy) clips x captions; optional
Features of the clips, in the order of the rows: DIR/features/train.* and test.*, where * is npy, npz or pkl: one array
[clips, d] or [clips, segments, d], or named ones ("RGB", "Flow", "Audio") that `features` selects.
Optional features of the captions, also one row per clip: DIR/features/text_train.*, text_test.*.

Without a matrix the relevancy is computed from the classes, by the definition of the published one. `count` selects the
class that defines the cluster size of a clip for MM-TS: noun, verb or action.
"""

from __future__ import annotations

import collections
import pathlib
import re

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.array_files import find_array_file, read_array, read_features
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn, TextColumn
from alignment_jax.data.manifest_rows import ManifestRow, read_table, read_text_lines
from alignment_jax.data.relevancy import ClassRelevancy, Relevancy, RelevancyMatrix
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import Column, PairSource, PairSplit

_COLUMNS = ("narration_id", "narration", "verb_class", "noun_class", "all_noun_classes")
OPTIONS = {"features": "", "count": "noun"}
COUNTS = {
    "noun": lambda values: values["noun_class"],
    "verb": lambda values: values["verb_class"],
    "action": lambda values: f"{values['verb_class']}_{values['noun_class']}",
}


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of EPIC-KITCHENS-100; see the module docstring for the layout.

    Args:
      argument: the folder, and options after commas.
      seed: not used.
      on_bad_sample: "skip" removes clips with an unusable row or features that are not finite.

    Returns:
      The source: a is the clip, b its caption; `cluster_size` is the number of training clips of its class, `relevancy`
      is graded. It has train and test; `with_splits` cuts val out of train.

    Raises:
      DataError: a file is missing, damaged or does not match the others.
      ConfigError: an unknown option.
    """
    root, options = path_and_options(argument, OPTIONS, what="epic")
    if options["count"] not in COUNTS:
        raise ConfigError(f"epic: count={options['count']!r} must be one of {', '.join(COUNTS)}")
    folder = pathlib.Path(root)
    notes = next(
        (place for place in (folder, folder / "retrieval_annotations") if _csv(place, "train").is_file()), None
    )
    if notes is None:
        raise DataError(f"{folder}: no EPIC_100_retrieval_train.csv in it or in retrieval_annotations/")
    names = tuple(filter(None, options["features"].split("+")))
    bad = BadSamples(on_bad_sample)
    class_of = COUNTS[options["count"]]
    tables = {name: _rows(_csv(notes, name), bad) for name in ("train", "test")}
    count = collections.Counter(class_of(row.values) for row, _ in tables["train"][1])
    _, label_names = number_classes([class_of(row.values) for _, rows in tables.values() for row, _ in rows])
    number = {name: k for k, name in enumerate(label_names)}
    splits, kinds = {}, set()
    for name, (total, rows) in tables.items():
        video, text = _features(folder, name, total, names), _features(folder, f"text_{name}", total, ())
        if video is None:
            where = folder / "features"
            raise DataError(f"{where}: no {name}.npy, {name}.npz or {name}.pkl with one row per clip")
        good = _finite(video, rows, f"{folder}: features of {name}", bad)
        rows = [pair for pair, fine in zip(rows, good, strict=True) if fine]
        lines = np.array([line for _, line in rows], np.int64)
        b: Column = TextColumn(tuple(row.values["narration"] for row, _ in rows), tuple(row.where for row, _ in rows))
        if text is not None:
            b = ArrayColumn(text, name=f"{folder}: text features of {name}").take(lines)
        kinds.add(b.kind)
        classes = [class_of(row.values) for row, _ in rows]
        splits[name] = PairSplit(
            a=ArrayColumn(video, name=f"{folder}: features of {name}").take(lines),
            b=b,
            b_to_a=np.arange(len(rows), dtype=np.int32),
            ids=np.array([row.values["narration_id"] for row, _ in rows]),
            label=np.array([number[c] for c in classes], np.int32),
            cluster_size=np.array([max(1, count[c]) for c in classes], np.float32),
            extra_b={"caption": np.array([row.values["narration"] for row, _ in rows])},
            relevancy=_relevancy(notes, name, total, rows),
        )
    problems = bad.finish()
    if len(kinds) > 1:
        raise DataError(f"{folder}/features: text features for only one of train and test; add or remove one")
    return PairSource(
        "epic", f"epic:{argument}", splits, True, problems, label_names=label_names, modalities=("video", "text")
    )


def _csv(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"EPIC_100_retrieval_{name}.csv"


def _rows(path: pathlib.Path, bad: BadSamples) -> tuple[int, list[tuple[ManifestRow, int]]]:
    """`(number of rows, usable rows with their numbers)`."""
    found, _ = read_table(path, required=_COLUMNS, bad=bad)
    rows: list[tuple[ManifestRow, int]] = []
    seen: dict[str, str] = {}
    for line, row in enumerate(found):
        name = row.values["narration_id"]
        fault = ""
        if not name or not row.values["narration"]:
            fault = "no narration_id or no narration"
        elif name in seen:
            fault = f"narration_id {name!r} is also in {seen[name]}"
        elif not (row.values["verb_class"].isdigit() and row.values["noun_class"].isdigit()):
            fault = "verb_class and noun_class must be whole numbers"
        elif not re.fullmatch(r"\[\d+(, *\d+)*\]", row.values["all_noun_classes"]):
            fault = f"all_noun_classes must be a list of whole numbers, found {row.values['all_noun_classes'][:40]!r}"
        seen.setdefault(name, row.where)
        if fault:
            bad.add(f"{row.where}: {fault}")
        else:
            rows.append((row, line))
    return len(found), rows


def _features(folder: pathlib.Path, name: str, total: int, parts: tuple[str, ...]) -> np.ndarray | None:
    path = find_array_file(folder / "features", name)
    if path is None:
        return None
    found = read_features(path, parts)
    if len(found) != total:
        raise DataError(f"{path}: {len(found)} rows, but the annotations have {total}; row i belongs to clip i")
    return found


def _finite(video: np.ndarray, rows: list[tuple[ManifestRow, int]], what: str, bad: BadSamples) -> list[bool]:
    good = [bool(np.isfinite(video[line]).all()) for _, line in rows]
    for (row, line), fine in zip(rows, good, strict=True):
        if not fine:
            bad.add(f"{what}, row {line} ({row.values['narration_id']}): not finite")
    return good


def _relevancy(notes: pathlib.Path, name: str, total: int, rows: list[tuple[ManifestRow, int]]) -> Relevancy:
    stem = f"caption_relevancy_EPIC_100_retrieval_{name}"
    path = find_array_file(notes / "relevancy", stem) or find_array_file(notes, stem)
    if path is None or name == "train":  # the training matrix would have billions of entries
        return ClassRelevancy(
            np.array([int(row.values["verb_class"]) for row, _ in rows]),
            [frozenset(map(int, re.findall(r"\d+", row.values["all_noun_classes"]))) for row, _ in rows],
            [row.values["narration"] for row, _ in rows],
            np.arange(len(rows)),
        )
    sentences = _csv(notes, f"{name}_sentence")
    asked = _sentence_ids(sentences)
    values = read_array(path)
    if values.shape != (total, len(asked)):
        raise DataError(
            f"{path}: must have shape [{total}, {len(asked)}] (clips, rows of {sentences.name}), got "
            f"{list(values.shape)}"
        )
    if values.dtype.kind not in "fiub" or not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"{path}: must hold numbers from 0 to 1")
    place = {row.values["narration_id"]: item for item, (row, _) in enumerate(rows)}
    kept = np.array([k for k, narration in enumerate(asked) if narration in place], np.int64)
    items = np.array([place[asked[k]] for k in kept.tolist()], np.int64)
    lines = np.array([line for _, line in rows], np.int64)
    return RelevancyMatrix(items, np.asarray(values[lines][:, kept], np.float32))


def _sentence_ids(path: pathlib.Path) -> list[str]:
    """The first clip of each distinct caption; the column is `narration_id`, in older files `index`."""
    bad = BadSamples("error")
    header = read_text_lines(path)[0]
    name = "index" if header.startswith("index") else "narration_id"
    rows, _ = read_table(path, required=(name,), bad=bad)
    bad.finish()
    return [row.values[name] for row in rows]
