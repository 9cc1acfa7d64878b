"""Reads arrays from published files: .npy, .npz, .csv of numbers, and pickles of plain arrays."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.npz_files import read_archive
from alignment_jax.data.plain_pickle import read_plain_pickle
from alignment_jax.data.shards import map_array

SUFFIXES = (".npy", ".npz", ".pkl", ".pickle")


def find_array_file(folder: pathlib.Path, *stems: str) -> pathlib.Path | None:
    """The first existing file with one of these stems and a suffix of `SUFFIXES`, or None."""
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_array(path: pathlib.Path) -> np.ndarray:
    """Reads a file of one array: .npy (memory-mapped), .csv without header, or a pickle.

    Raises:
      DataError: the file is missing or damaged, or holds something else.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix != ".npy":
        found = read_plain_pickle(path)
        if not isinstance(found, np.ndarray):
            raise DataError(f"{path}: expected one array, found a {type(found).__name__}")
        return found
    return map_array(path)


def _read_csv(path: pathlib.Path) -> np.ndarray:
    try:
        return np.atleast_2d(np.loadtxt(path, delimiter=",", dtype=np.float32))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a table of numbers ({' '.join(str(error).split())})") from error


def read_features(path: pathlib.Path, names: Sequence[str] = ()) -> np.ndarray:
    """Reads one feature vector per row: several arrays are concatenated, segments are averaged.

    Args:
      path: a .npy, .npz or pickle file: one array, or a mapping of names to arrays, each [n, d] or [n, segments, d].
      names: the arrays of a mapping to concatenate, in this order; empty if it has only one.

    Returns:
      float [n, sum of d].

    Raises:
      DataError: the file is damaged, an array is missing, not numbers, or of another shape.
    """
    found: object = read_archive(path) if path.suffix == ".npz" else None
    if found is None:
        found = read_array(path) if path.suffix == ".npy" else read_plain_pickle(path)
    if isinstance(found, np.ndarray):
        parts = {"the array": found}
    elif isinstance(found, Mapping):
        wanted = tuple(names) or tuple(found)
        missing = [name for name in wanted if name not in found]
        if missing or (len(wanted) > 1 and not names):
            known = ", ".join(map(str, found))
            raise DataError(f"{path}: {f'no array {missing[0]!r}' if missing else 'several arrays'}; it has {known}")
        parts = {str(name): found[name] for name in wanted}
    else:
        raise DataError(f"{path}: expected arrays, found a {type(found).__name__}")
    return side_by_side(path, parts)


def side_by_side(path: pathlib.Path, parts: Mapping[str, object]) -> np.ndarray:
    """Concatenates arrays [n, d] or [n, segments, d] to [n, sum of d], averaged over the segments."""
    rows: list[np.ndarray] = []
    for name, part in parts.items():
        if not isinstance(part, np.ndarray) or part.dtype.kind != "f" or part.ndim not in (2, 3) or 0 in part.shape:
            what = f"{part.dtype} {list(part.shape)}" if isinstance(part, np.ndarray) else type(part).__name__
            raise DataError(f"{path}: {name} must be floating point [n, d] or [n, segments, d], got {what}")
        if rows and len(part) != len(rows[0]):
            raise DataError(f"{path}: {name} has {len(part)} rows, the others {len(rows[0])}")
        rows.append(part if part.ndim == 2 else segment_means(part))
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)


def segment_means(array: np.ndarray) -> np.ndarray:
    """Mean over the second axis, float32 [n, d]; computed in blocks, because the array may be memory-mapped."""
    blocks = [array[i : i + 1024].mean(axis=1, dtype=np.float32) for i in range(0, len(array), 1024)]
    return np.concatenate(blocks)
