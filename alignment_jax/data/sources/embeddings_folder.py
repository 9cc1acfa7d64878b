"""`embeddings:DIR`: the arrays of an embeddings file in memory-mapped shards (see `data.shards`).

Opening reads only the index: pairs, ids, splits, labels. Embeddings are read when a batch needs them.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn
from alignment_jax.data.encoder_records import by_side, of_plan
from alignment_jax.data.npz_files import check_unique, finite_rows
from alignment_jax.data.shards import Shard, ShardedArray, StoredTextColumn, damaged_files, map_array, read_shards
from alignment_jax.data.split import ALL, SPLITS, PairSource, PairSplit, canonical_split


def load_folder(folder: pathlib.Path, *, spec: str, on_bad_sample: str) -> PairSource:
    """Opens a folder of shards.

    Args:
      folder: with a manifest.
      spec: for the source.
      on_bad_sample: "error" compares only file sizes, so that opening 10 million pairs takes seconds; the training step
        finds NaN. "skip" reads all data once, verifies the checksums and removes rows with NaN or infinity.

    Raises:
      DataError: the folder is incomplete, a checksum is wrong, or its arrays do not match.
    """
    shards, manifest = read_shards(folder)
    views = tuple(name for name in sorted(shards[0].files) if name.startswith("image_") and name != "image_id")
    arrays = {name: _mapped(shards, name) for name in ("image", *views, "text")}
    image, text = arrays["image"], arrays["text"]
    n, m = len(image), len(text)
    owner = _owners(shards)
    ids = _strings(shards, "image_id")
    if ids is None:
        ids = np.arange(n).astype(f"U{len(str(n - 1))}")
    else:
        check_unique(folder, "image_id", ids)

    bad = BadSamples(on_bad_sample)
    good_a, good_b = np.ones(n, bool), np.ones(m, bool)
    if bad.skip:
        for line in damaged_files(shards):
            raise DataError(line)
        for name, array in arrays.items():
            good = good_b if name == "text" else good_a
            good &= finite_rows(folder, name, array, bad)
    # Read-ahead helps only if the data fits into memory.
    if sum(array.nbytes for array in arrays.values()) > _memory() / 2:
        for array in arrays.values():
            array.expect_random_reads()
    code = _splits(shards, bad)
    if code is not None:
        good_a &= code >= 0
    problems = bad.finish()
    good_b &= good_a[owner]
    good_a &= np.bincount(owner[good_b], minlength=n) > 0

    captions = [map_array(shard.files["caption"]) for shard in shards if "caption" in shard.files]
    label, label_names = _labels(shards)
    whole = PairSplit(
        a=ArrayColumn(image, name=f"{folder}: image", views=tuple(arrays[view] for view in views)),
        b=ArrayColumn(text, name=f"{folder}: text"),
        b_to_a=owner,
        ids=ids,
        label=label,
        cluster_size_b=_numbers(shards, "cluster_size"),
        extra_b={"caption": StoredTextColumn.of(captions, f"{folder}: caption")} if captions else {},
    )
    if not good_a.any():
        raise DataError(f"{folder}: no usable pair")
    if not (good_a.all() and good_b.all()):
        whole = whole.subset(np.flatnonzero(good_a), keep_b=good_b)
        code = None if code is None else code[good_a]
    if code is None:
        splits = {ALL: whole}
    else:
        present = [(number, name) for number, name in enumerate(SPLITS) if (code == number).any()]
        splits = {name: whole.subset(np.flatnonzero(code == number)) for number, name in present}
    modalities = _modalities(manifest)
    return PairSource(
        "embeddings",
        spec,
        splits,
        code is not None,
        problems,
        label_names=label_names,
        modalities=modalities,
        encoders=by_side(of_plan(manifest.get("plan")), modalities),
    )


def _memory() -> int:
    """Memory of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _mapped(shards: list[Shard], name: str) -> ShardedArray:
    parts = []
    for shard in shards:
        path = _file(shard, name)
        part = map_array(path)
        rows = shard.rows_b if name == "text" else shard.rows_a
        if part.ndim != 2 or 0 in part.shape or len(part) != rows:
            raise DataError(f"{path}: {name} must have shape [{rows}, dimensions], got {list(part.shape)}")
        if not np.issubdtype(part.dtype, np.floating):
            raise DataError(f"{path}: {name} must be floating point, got {part.dtype}")
        parts.append(part)
    return ShardedArray(parts, name)


def _file(shard: Shard, name: str) -> pathlib.Path:
    if name not in shard.files:
        raise DataError(f"shard {shard.name}: no array {name!r}; it has {', '.join(sorted(shard.files))}")
    return shard.files[name]


def _vectors(shards: list[Shard], name: str, *, side: str) -> list[np.ndarray] | None:
    """The memory-mapped vector of each shard, or None if the shards do not have this array."""
    if name not in shards[0].files:
        return None
    found = []
    for shard in shards:
        vector = map_array(shard.files[name])
        rows = shard.rows_a if side == "a" else shard.rows_b
        if vector.shape != (rows,):
            raise DataError(f"{shard.files[name]}: {name} must have shape [{rows}], got {list(vector.shape)}")
        found.append(vector)
    return found


def _owners(shards: list[Shard]) -> np.ndarray:
    """The image of every text, as a row of all shards."""
    parts = _vectors(shards, "text_to_image", side="b")
    if parts is None:
        raise DataError(f"shard {shards[0].name}: no array 'text_to_image'")
    owners, before = [], 0
    for shard, part in zip(shards, parts, strict=True):
        if not np.issubdtype(part.dtype, np.integer) or part.min() < 0 or part.max() >= shard.rows_a:
            raise DataError(f"{shard.files['text_to_image']}: must hold integers in [0, {shard.rows_a})")
        alone = np.flatnonzero(np.bincount(part, minlength=shard.rows_a) == 0)
        if alone.size:
            raise DataError(f"{shard.files['image']}: row {alone[0]} has no text")
        owners.append(part.astype(np.int32) + np.int32(before))
        before += shard.rows_a
    return np.concatenate(owners)


def _numbers(shards: list[Shard], name: str) -> np.ndarray | None:
    parts = _vectors(shards, name, side="b")
    if parts is None:
        return None
    for shard, part in zip(shards, parts, strict=True):
        if not (np.issubdtype(part.dtype, np.number) and (part >= 1).all()):
            raise DataError(f"{shard.files[name]}: {name} must hold numbers of at least 1")
    return np.concatenate(parts).astype(np.float32)


def _decoded(part: np.ndarray) -> np.ndarray:
    if part.dtype.kind != "S":
        return part.astype(str)
    try:
        return part.astype(str)  # much faster, but only for ASCII
    except UnicodeDecodeError:
        return np.char.decode(part, "utf-8")


def _strings(shards: list[Shard], name: str) -> np.ndarray | None:
    parts = _vectors(shards, name, side="a")
    return None if parts is None else np.concatenate([_decoded(part) for part in parts])


def _categories(shards: list[Shard], name: str) -> tuple[list[str], np.ndarray] | None:
    """The distinct values of a text array, and for each image the index of its value."""
    parts = _vectors(shards, name, side="a")
    if parts is None:
        return None
    numbers: dict[str, int] = {}
    codes = []
    for part in parts:
        values, inverse = np.unique(part, return_inverse=True)
        known = [numbers.setdefault(value, len(numbers)) for value in _decoded(values).tolist()]
        codes.append(np.array(known, np.int32)[inverse])
    return list(numbers), np.concatenate(codes)


def _splits(shards: list[Shard], bad: BadSamples) -> np.ndarray | None:
    """int32 [N], index in `SPLITS` of the split of each image, -1 for an unknown one."""
    found = _categories(shards, "split")
    if found is None:
        return None
    names, code = found
    for name in names:
        if canonical_split(name) is None:
            bad.add(f"{shards[0].files['split']}: unknown split {name!r}; known: train, val, test")
    place = [-1 if canonical_split(name) is None else SPLITS.index(str(canonical_split(name))) for name in names]
    return np.array(place, np.int32)[code]


def _labels(shards: list[Shard]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    found = _categories(shards, "label")
    if found is None:
        return None, None
    names, code = found
    number, ordered = number_classes(names)
    return number[code], ordered


def _modalities(manifest: dict) -> tuple[str, str]:
    match manifest.get("plan"):
        case {"modalities": [str(a), str(b)]}:
            return a, b
    return "image", "text"
