"""Records fingerprints of a run's items, which identify them in data of any name."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, report
from alignment_jax.assembly.classifier import is_classifier
from alignment_jax.core.errors import DataError, RunError, one_line
from alignment_jax.data.item_fingerprints import ItemFingerprints, contained, item_fingerprints, match_splits
from alignment_jax.data.leakage import shared_items

FILE = "items.npz"  # in a workdir: SPLIT.SIDE -> uint64, see ItemFingerprints
TRAIN, VAL = "train", "val"
_SHOWN = 3  # items that a line names
ItemRecord = Mapping[str, ItemFingerprints]


def record_items(source: data.PairSource) -> ItemRecord | None:
    """The fingerprints of every split; None where memory-mapped arrays are too large to read."""
    found: dict[str, ItemFingerprints] = {}
    for name, split in source.splits.items():
        prints = _prints(split, source.spec)
        if prints is None:
            return None
        found[name] = prints
    return found


def _prints(split: data.PairSplit, spec: str) -> ItemFingerprints | None:
    name = hashlib.sha256(f"{pathlib.Path.cwd()}\0{spec}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return item_fingerprints(
        split, memory=pathlib.Path.home() / ".cache" / "alignment_jax" / "item_fingerprints" / name
    )


def save_item_record(workdir: pathlib.Path, known: ItemRecord | None) -> None:
    """Writes the fingerprints to the workdir; None removes those of an earlier run."""
    if known is None:
        (workdir / FILE).unlink(missing_ok=True)
        return
    arrays = {f"{name}.{side}": array for name, prints in known.items() for side, array in prints.arrays().items()}
    report.write_npz_atomic(workdir / FILE, arrays)


def load_item_record(workdir: pathlib.Path) -> ItemRecord | None:
    """The fingerprints of a run; None without a record (earlier versions, or arrays too large to read).

    Raises:
      RunError: the file is damaged.
    """
    path = workdir / FILE
    if not path.is_file():
        return None
    found: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                split, _, side = name.partition(".")
                found.setdefault(split, {})[side] = arrays[name]
        return {name: ItemFingerprints(**sides) for name, sides in found.items()}
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read ({error}); run the train command again to restore it") from error


def with_run_splits(source: data.PairSource, known: ItemRecord, config: ConfigDict) -> data.PairSource:
    """The source with the run's splits where all its items are the run's; otherwise unchanged.

    The data's own split information comes first. The run gives the rest: all splits, or val where the run took it from
    train.

    Args:
      source: the loaded data set.
      known: of the run.
      config: of the run.
    """
    part = next(iter(source.splits)) if not source.has_splits else TRAIN
    if part not in source.splits or VAL in source.splits:
        return source
    split = source.splits[part]
    prints = _prints(split, source.spec)
    if prints is None:
        return source
    known = {name: one for name, one in known.items() if not source.has_splits or name in (TRAIN, VAL)}
    which = match_splits(prints, known, _sides(config))
    if (which < 0).any():
        return source
    cut = {name: split.subset(np.flatnonzero(which == number)) for number, name in enumerate(known) if number in which}
    rest = {name: other for name, other in source.splits.items() if name != part and name not in cut}
    note = "its content is that of the run's own data: the splits are the run's"
    return dataclasses.replace(source, splits={**cut, **rest}, has_splits=True, notes=(*source.notes, note))


def changed_items(source: data.PairSource, known: ItemRecord) -> list[str]:
    """The splits whose items, or their order, differ from the record."""

    def same(name: str) -> bool:
        if name not in source.splits or name not in known:
            return False
        found = _prints(source.splits[name], source.spec)
        return found is not None and found.equals(known[name])

    return sorted(name for name in source.splits.keys() | known.keys() if not same(name))


def reordered(source: data.PairSource, known: ItemRecord) -> bool:
    """Whether every split has the recorded items, in any order."""

    def same(name: str) -> bool:
        found = _prints(source.splits[name], source.spec)
        return found is not None and np.array_equal(np.sort(found.row), np.sort(known[name].row))

    return source.splits.keys() == known.keys() and all(map(same, known))


def shared_with_train(known: ItemRecord, config: ConfigDict) -> tuple[str, ...]:
    """A line for each split that shares rows with train, and one for each that shares b-items."""
    lines = []
    for name, prints in known.items():
        if name == TRAIN:
            continue
        if count := int(_trained(prints, known, config).sum()):
            lines.append(
                f"{count} of {len(prints.a)} rows of {name} are also in train: they count in the results of this run, "
                "and `evaluate` leaves them out"
            )
        if texts := int(contained(prints.b, known[TRAIN].b).sum()):
            lines.append(shared_items(texts, len(prints.b), name, TRAIN))
    return tuple(lines)


def _trained(prints: ItemFingerprints, known: ItemRecord, config: ConfigDict) -> np.ndarray:
    """bool [N]: the a-items that are in the run's training data.

    An alignment compares a-items, whatever their captions. A classifier compares all modalities of a sample together,
    because one of them may be missing or shared.
    """
    return match_splits(prints, {TRAIN: known[TRAIN]}, _sides(config)) == 0


def _sides(config: ConfigDict) -> tuple[str, ...]:
    return ("row",) if is_classifier(config.model) else ("row", "a")


def exclude_training_rows(
    split: data.PairSplit,
    known: ItemRecord | None,
    config: ConfigDict,
    *,
    where: str,
    name: str,
    include: bool,
) -> tuple[data.PairSplit, tuple[str, ...]]:
    """The split without the run's training rows, and lines that count and name them.

    Args:
      split: to evaluate.
      known: of the run, from `load_item_record`.
      config: of the run.
      where: SPEC of the data.
      name: of the split.
      include: keep these rows.

    Raises:
      DataError: no row would be left.
    """
    prints = None if known is None else _prints(split, where)
    if known is None or prints is None or TRAIN not in known:
        unknown = "warning: this run has no fingerprints of its items: training rows cannot be recognized"
        return split, () if name == TRAIN else (unknown,)
    found = _trained(prints, known, config)
    rows = np.flatnonzero(found)
    if not rows.size:
        return split, ()
    shown = ", ".join(one_line(str(split.ids[row])) for row in rows[:_SHOWN]) + (", ..." if rows.size > _SHOWN else "")
    count = f"{rows.size} of {len(split)} rows of {name} were in the run's training data ({shown})"
    if include:
        return split, (f"{count} and are kept",)
    if rows.size == len(split):
        raise DataError(f"{where}: {count}: nothing is left to evaluate; --include_trained keeps them")
    return split.subset(np.flatnonzero(~found)), (f"{count} and are left out; --include_trained keeps them",)
