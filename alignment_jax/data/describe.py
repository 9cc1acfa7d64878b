"""Statistics of a data set, and a list of its problems."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError, one_line
from alignment_jax.data.audio import AudioColumn
from alignment_jax.data.class_labels import class_notes
from alignment_jax.data.columns import ArrayColumn, ImageColumn
from alignment_jax.data.duplicate_counts import count_duplicates, duplicates_note
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.frequencies import class_histogram, cluster_histogram
from alignment_jax.data.leakage import leak_warning, leaks, shared_items
from alignment_jax.data.missing_modalities import missing_notes
from alignment_jax.data.open_image import open_image
from alignment_jax.data.pixel_range import describe_pixels
from alignment_jax.data.split import Column, PairSource, PairSplit
from alignment_jax.data.validation import decoding_errors


def describe(source: PairSource) -> dict[str, Any]:
    """Counts and statistics of every split, as a JSON-serialisable dict.

    Args:
      source: a data set.

    Returns:
      `name`, `spec`, `has_splits`, `splits` (for each: `a`, `b` and `c` with kind, count and statistics, `b_per_a`,
      `classes` or `clusters` with their tail, `repeated` items, and `repeats`, a note on them or None), `duplicates`
      (items that are also in an earlier split, by side), `leakage` (which splits share them), `warnings` (lines),
      `skipped`, `notes`.

    >>> from alignment_jax.data import load
    >>> description = describe(load("synthetic:train=8,val=2,test=2,captions=2,size=16"))
    >>> description["splits"]["train"]["b_per_a"]
    {'min': 2, 'mean': 2.0, 'max': 2}
    """
    found = {side: leaks(source, side) for side in ("a", "b")}
    splits, deep = {}, describe_pixels(source)
    for name, split in source.splits.items():
        repeated = {side: of_side[1][name] for side, of_side in found.items()}
        line = None if split.label is not None else duplicates_note(name, count_duplicates(split), source.modalities)
        splits[name] = {**_split(split, source.label_names), "repeated": repeated, "repeats": line}
        for side, pixels in deep.get(name, {}).items():
            splits[name][side] |= pixels
    return {
        "name": source.name,
        "spec": source.spec,
        "has_splits": source.has_splits,
        "splits": splits,
        "duplicates": {side: sum(leak.count for leak in of_side[0]) for side, of_side in found.items()},
        "leakage": [dataclasses.asdict(leak) for of_side in found.values() for leak in of_side[0]],
        # Equal captions in two splits are common and harmless ("a dog runs"): counted, without a warning.
        "warnings": [leak_warning(leak, source.modalities[0]) for leak in found["a"][0]],
        "skipped": len(source.problems),
        "notes": [*source.notes, *missing_notes(source.splits, source.modalities), *class_notes(source)],
    }


def problems(source: PairSource) -> list[str]:
    """One line for each problem: samples that were skipped, and files that cannot be decoded."""
    lines = list(source.problems)
    for split in source.splits.values():
        for column in (split.a, split.b, split.c):
            if column is not None:
                lines += [message for _, message in decoding_errors(column)]
    return lines


def format_column(column: Column) -> str:
    """One line about a column: count, kind and statistics.

    >>> from alignment_jax.data.columns import TextColumn
    >>> format_column(TextColumn(("a dog",)))[:20]
    '1 text: words min 2,'
    """
    return _line(_column(column))


def format_description(description: dict[str, Any]) -> str:
    """The description as lines of text for a terminal.

    >>> from alignment_jax.data import load
    >>> print(format_description(describe(load("synthetic:train=8,val=2,test=2,size=16"))))
    synthetic:... (source synthetic, with splits)
    train
      a  8 image...
    """
    kept = "with splits" if description["has_splits"] else "without splits"
    lines = [f"{description['spec']} (source {description['name']}, {kept})"]
    for name, split in description["splits"].items():
        lines.append(name)
        for side in (side for side in ("a", "b", "c") if side in split):
            lines.append(f"  {side}  {_line(split[side])}")
        lines.append(f"  pairs per a-item {_value(split['b_per_a'])}")
        for kind in ("classes", "clusters"):
            if kind in split:
                lines.append(f"  {kind} {_value({k: v for k, v in split[kind].items() if k != 'counts'})}")
        if isinstance(split.get("classes"), dict):
            lines.append(f"    {_ends(split['classes']['counts'])}")
        if split["repeats"]:
            lines.append(f"  {split['repeats']}")
        for side, count in split["repeated"].items():
            if count and not split["repeats"]:
                lines.append(f"  {side}-items that repeat another one of this split: {count}")
    for leak in description["leakage"]:
        if leak["side"] == "b":
            lines.append(shared_items(leak["count"], leak["of"], leak["split"], leak["earlier"]))
    lines += description["warnings"]
    if description["skipped"]:
        lines.append(f"bad samples, left out here: {description['skipped']}")
    return "\n".join(one_line(line) for line in [*lines, *description["notes"]])


def _line(column: dict[str, Any]) -> str:
    rest = "; ".join(f"{key} {_value(value)}" for key, value in column.items() if key not in ("count", "kind"))
    return f"{column['count']} {column['kind']}: {rest}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ends(counts: dict[str, int], most: int = 5, least: int = 3) -> str:
    """The most frequent classes and the rarest."""
    items = [f"{name} {count}" for name, count in counts.items()]
    return ", ".join(items if len(items) <= most + least else [*items[:most], "...", *items[-least:]])


def _split(split: PairSplit, names: tuple[str, ...] | None) -> dict[str, Any]:
    columns = {"a": split.a, "b": split.b, **({} if split.c is None else {"c": split.c})}
    out = {
        **{side: _present(column, split.present.get(side)) for side, column in columns.items()},
        "b_per_a": _range(np.bincount(split.b_to_a, minlength=len(split.a))),
    }
    sizes = split.cluster_size_b if split.cluster_size_b is not None else split.cluster_size
    if split.label is not None:
        out["classes"] = class_histogram(split.label, names)
    elif sizes is not None:
        out["clusters"] = cluster_histogram(sizes)
    return out


def _present(column: Column, has: np.ndarray | None) -> dict[str, Any]:
    """Statistics of the items that exist, and the number of missing ones."""
    if has is None or has.all():
        return _column(column)
    found = _column(column.take(np.flatnonzero(has))) if has.any() else {"count": 0, "kind": column.kind}
    return {**found, "missing": int((~has).sum())}


def _column(column: Column) -> dict[str, Any]:
    out: dict[str, Any] = {"count": len(column), "kind": column.kind}
    if isinstance(column, ArrayColumn):
        out["shape"] = list(column.array.shape[1:])
        out["dtype"] = str(column.array.dtype)
        out["views"] = column.num_views
        if np.issubdtype(column.array.dtype, np.floating):
            out |= _norms(column)
    elif isinstance(column, ImageColumn | FrameColumn):
        if isinstance(column, FrameColumn):
            out["frames"] = _range(column.count)
            column = column.frames.take(column.first + column.count // 2)
        sizes, modes = _image_sizes(column)
        out["width"], out["height"] = _range(sizes[:, 0]), _range(sizes[:, 1])
        out["modes"] = dict(modes)
    elif isinstance(column, AudioColumn):
        out["seconds"] = _range(_seconds(column))
    elif column.kind == "text":
        texts = column.read(np.arange(len(column)))
        out["words"] = _range(np.array([len(text.split()) for text in texts]))
        out["characters"] = _range(np.array([len(text) for text in texts]))
        out["vocabulary"] = len({word for text in texts for word in text.lower().split()})
    return out


def _norms(column: ArrayColumn) -> dict[str, Any]:
    """Norms of the items and standard deviation of their values; in blocks, because a float32 copy may not fit."""
    norms, total = [], np.zeros(2)
    for start in range(0, len(column), 8192):
        items = column.read(np.arange(start, min(start + 8192, len(column))))
        flat = items.reshape(len(items), -1).astype(np.float64)
        norms.append(np.linalg.norm(flat, axis=1))
        total += flat.sum(), np.square(flat).sum()
    mean, square = total / max(1, len(column) * int(np.prod(column.array.shape[1:])))
    return {"norm": _range(np.concatenate(norms)), "std": float(np.sqrt(max(0.0, square - mean**2)))}


def _range(values: np.ndarray) -> dict[str, Any]:
    low, high = values.min().item(), values.max().item()
    return {"min": low, "mean": float(values.mean()), "max": high}


def _image_sizes(column: ImageColumn) -> tuple[np.ndarray, Counter[str]]:
    """Sizes [N, 2] and colour modes, from the headers of the files; `problems` lists unreadable files."""
    sizes, modes = [], Counter[str]()
    for item in column.items:
        if item is None:
            continue
        if isinstance(item, np.ndarray):
            sizes.append((item.shape[1], item.shape[0]))
            modes["RGB"] += 1
            continue
        try:
            with open_image(item, where=str(item)) as image:
                sizes.append(image.size)
                modes[image.mode] += 1
        except Exception:  # PIL's plugins raise almost anything
            modes["unreadable"] += 1
    return np.array(sizes or [(0, 0)]), modes


def _seconds(column: AudioColumn) -> np.ndarray:
    """Lengths [N] of the recordings, 0 for unreadable ones, which `problems` lists."""
    out = np.zeros(len(column))
    for index in range(len(column)):
        try:
            ((samples, rate),) = column.read(np.array([index]))
            out[index] = len(samples) / rate
        except DataError:
            continue
    return out
