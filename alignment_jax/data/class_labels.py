"""Class names and ids, notes on classes, and stratified subsets."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.split import NOTHING, Column, PairSource, PairSplit

_NAMED = 5  # classes that a note lists by name


def number_classes(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers for class names: in numerical order if all are integers, else in alphabetical order.

    Returns:
      (int32 [n], the classes' names in the order of their numbers).

    >>> number_classes(["10", "2", "10"])
    (array([1, 0, 1], dtype=int32), ('2', '10'))
    """
    distinct = set(names)
    try:
        ordered = sorted(distinct, key=lambda name: (int(name), name))  # "1" and "01" are different classes
    except ValueError:
        ordered = sorted(distinct)
    number = {name: k for k, name in enumerate(ordered)}
    return np.array([number[name] for name in names], np.int32), tuple(ordered)


def class_notes(source: PairSource) -> list[str]:
    """Notes on the classes: labels that differ only by case or spaces, classes without training samples, and modalities
    that reveal the class.

    Args:
      source: a data set; without labels there are no notes.

    >>> import alignment_jax as aj
    >>> class_notes(aj.data.load("synthetic:train=8,val=2,test=2,size=16,concepts=2"))
    []
    """
    if source.label_names is None:
        return []
    names, notes = source.label_names, _label_leaks(source)
    if len(names) == 1:
        notes.append(f"all samples have the label {names[0]!r}; a classifier needs at least two classes")
    count = {
        name: np.bincount(split.label, minlength=len(names))
        for name, split in source.splits.items()
        if split.label is not None
    }
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        alike.setdefault("".join(name.casefold().split()), []).append(number)
    for numbers in alike.values():
        if len(numbers) > 1:
            each = ", ".join(f"{names[k]!r} ({sum(int(found[k]) for found in count.values())})" for k in numbers)
            notes.append(f"labels that differ only by case or spaces are separate classes: {each}")
    if "train" not in count:
        return notes
    unlearned = []
    for number in np.flatnonzero(count["train"] == 0).tolist():
        elsewhere = [f"{found[number]} in {name}" for name, found in count.items() if found[number]]
        unlearned += [f"{names[number]!r} ({', '.join(elsewhere)})"] if elsewhere else []
    if unlearned:
        more = f" and {len(unlearned) - _NAMED} more" if len(unlearned) > _NAMED else ""
        notes.append(
            f"train has no sample of {', '.join(unlearned[:_NAMED])}{more}: a classifier cannot learn them, and their "
            "samples count as errors; add training samples, or remove these classes"
        )
    return notes


def absent_class_notes(splits: Mapping[str, PairSplit], names: Sequence[str] | None) -> list[str]:
    """A note for each split without samples of some class, which counts as 0 in the mean of mAP.

    Args:
      splits: that are evaluated, with labels.
      names: of all classes; None for data without.

    >>> from alignment_jax.data import load
    >>> split = load("synthetic:train=8,val=2,test=2,size=16,concepts=2").splits["test"]
    >>> absent_class_notes({"test": split.replace(label=np.array([1, 1]))}, ("no", "yes"))
    ["test has no sample of 'no': mAP counts such a class as 0"]
    """
    notes = []
    for name, split in splits.items():
        absent = np.setdiff1d(np.arange(len(names or ())), () if split.label is None else split.label).tolist()
        if names and absent and split.label is not None:
            more = f" and {len(absent) - _NAMED} more of {len(names)} classes" if len(absent) > _NAMED else ""
            listed = ", ".join(repr(names[number]) for number in absent[:_NAMED])
            notes.append(f"{name} has no sample of {listed}{more}: mAP counts such a class as 0")
    return notes


def _label_leaks(source: PairSource) -> list[str]:
    """One line for each modality that reveals the class: one content per class, and no two classes share it."""
    notes: list[str] = []
    split = source.splits.get("train", next(iter(source.splits.values())))
    if split.label is None:
        return notes
    for side, modality in zip("abc", source.modalities, strict=False):
        column: Column | None = getattr(split, side)
        # Files and memory-mapped arrays are skipped: all of their content would have to be read.
        if column is None or column.kind not in ("text", "embedding") or getattr(column, "mapped", False):
            continue
        label = split.label[split.b_to_a] if side == "b" else split.label
        there = split.present.get(side, np.ones(len(split), bool))
        pairs = {(int(k), column.identity(i, exact=True)) for i, k in enumerate(label) if side == "b" or there[i]}
        pairs = {pair for pair in pairs if pair[1] != NOTHING}
        classes = {k for k, _ in pairs}
        if 1 < len(classes) == len(pairs) == len({content for _, content in pairs}) <= len(column) // 2:
            notes.append(f"each class has exactly one {modality}: a classifier can read the answer from it")
    return notes


def with_label_names(source: PairSource, names: Sequence[str]) -> PairSource:
    """Renumbers the classes as in `names`, for a model that was trained on another data set.

    Args:
      source: a data set with labels.
      names: the classes in the order of the model's outputs.

    Raises:
      DataError: no labels, or a class that is not among `names`.
    """
    if source.label_names is None:
        raise DataError(f"{source.spec}: no labels")
    names = tuple(names)
    unknown = [name for name in source.label_names if name not in names]
    if unknown:
        raise DataError(
            f"{source.spec}: class {unknown[0]!r} is unknown to the model, which was trained on {', '.join(names)}; "
            "remove its rows, or rename the class"
        )
    number = np.array([names.index(name) for name in source.label_names], np.int32)
    splits = {name: split.replace(label=number[split.label]) for name, split in source.splits.items()}
    return dataclasses.replace(source, splits=splits, label_names=names)


def few_samples(split: PairSplit, fraction: float, *, seed: int) -> PairSplit:
    """A stratified subset of the a-items with all their b-items; every class keeps at least one.

    Items are ranked by a hash of (seed, id), so a smaller fraction is a subset of a larger one.

    Args:
      split: N a-items.
      fraction: share to keep, in (0, 1].
      seed: of the hash.

    Returns:
      The subset, in the order of the split.

    Raises:
      ConfigError: fraction is not in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"input.fraction must be in (0, 1], got {fraction}")
    if fraction == 1.0:
        return split
    rank = np.array([int.from_bytes(hashlib.sha256(f"{seed}/{i}".encode()).digest()[:8], "big") for i in split.ids])
    label = np.zeros(len(split), np.int32) if split.label is None else split.label
    kept = []
    for number in np.unique(label):
        members = np.flatnonzero(label == number)
        kept.append(members[np.argsort(rank[members], kind="stable")][: max(1, round(fraction * len(members)))])
    return split.subset(np.sort(np.concatenate(kept)))
