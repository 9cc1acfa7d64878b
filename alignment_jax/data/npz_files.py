"""Reads .npz files without pickles and checks their arrays; messages name file, array and row."""

from __future__ import annotations

import math
import pathlib
import zipfile

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.distinct_ids import all_distinct
from alignment_jax.data.shards import ShardedArray
from alignment_jax.data.split import canonical_split
from alignment_jax.data.unsupported_files import pickled_objects_message, refuse_unsupported

# An archive that unpacks to more bytes than this may be compressed by at most this factor.
_FREE_SIZE = 1 << 28
_MOST_PACKED = 100
# Bounds on the largest absolute value of an embedding: outside of them its norm leaves float32.
_SMALLEST, _LARGEST = 1e-12, 1e15
_BLOCK = 1 << 17  # numbers checked at a time


def read_archive(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of the file.

    Raises:
      DataError: it is missing, damaged, one bare array, or holds pickled objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    refuse_unsupported(path)
    _check_archive(path)
    _refuse_bombs(path)
    arrays: dict[str, np.ndarray] = {}
    name = "its directory"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = file[name]
    # NumPy, zipfile and zlib raise errors without a common base class.
    except Exception as error:
        if "pickle" in str(error):
            raise DataError(pickled_objects_message(path, name)) from error
        raise DataError(f"{path}: damaged archive, {name} cannot be read; copy or write the file again") from error
    return arrays


def _check_archive(path: pathlib.Path) -> None:
    """Raises DataError if the file is not a complete archive; the message names its kind."""
    with open(path, "rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        raise DataError(
            f"{path}: one array without a name; save several named arrays with np.savez, or write "
            f"--data embeddings:image={path},text=FILE.npy for the latents of two modalities"
        )
    if not zipfile.is_zipfile(path):
        cut = start.startswith(b"PK")
        what = "an incomplete archive; copy it again" if cut else "not an archive of arrays; write it with np.savez"
        raise DataError(f"{path}: {'an empty file; write it with np.savez' if not start else what}")


def _refuse_bombs(path: pathlib.Path) -> None:
    """Raises DataError for an archive whose compression ratio is far above that of numeric arrays."""
    if not zipfile.is_zipfile(path):
        return  # the reader reports it
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # a damaged directory raises errors of many kinds; the reader reports it
        return
    if unpacked > _FREE_SIZE and unpacked > _MOST_PACKED * path.stat().st_size:
        raise DataError(
            f"{path}: unpacks from {path.stat().st_size / 2**20:.1f} MiB to {unpacked / 2**30:.1f} GiB, more than "
            "numeric arrays do; if the content is right, save it uncompressed with np.savez"
        )


def optional_vector(path: pathlib.Path, arrays: dict[str, np.ndarray], name: str, size: int) -> np.ndarray | None:
    """The array of this name with one entry for each of `size` rows, or None when there is none."""
    array = arrays.get(name)
    if array is not None and array.shape != (size,):
        raise DataError(f"{path}: {name} must have shape [{size}], got {list(array.shape)}")
    return array


def text_vector(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    """The entries as text."""
    if array.dtype.kind != "S":  # numbers may serve as names
        return array.astype(str)
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {name} holds bytes that are not UTF-8; save it with .astype(str)") from error


def modality_names(path: pathlib.Path, arrays: dict[str, np.ndarray], default: tuple[str, ...]) -> tuple[str, ...]:
    """The modality names in the file (optional text array `modalities`), or the default."""
    given = optional_vector(path, arrays, "modalities", len(default))
    if given is None:
        return default
    names = tuple(name.strip() for name in text_vector(path, "modalities", given).tolist())
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"{path}: modalities must be different words, got {', '.join(map(repr, names))}")
    return names


def check_unique(path: pathlib.Path, name: str, ids: np.ndarray) -> None:
    """Raises DataError if an id occurs twice."""
    if all_distinct(ids):
        return
    values, count = np.unique(ids, return_counts=True)
    if (count > 1).any():
        value = values[count > 1][0]
        rows = np.flatnonzero(ids == value)[:2]
        raise DataError(f"{path}: {name} {str(value)!r} occurs in rows {rows[0]} and {rows[1]}; ids must be unique")


def finite_rows(
    path: pathlib.Path, name: str, array: np.ndarray | ShardedArray, bad: BadSamples, *, zeros: bool = False
) -> np.ndarray:
    """bool [n], the rows that hold only finite numbers; the others are added to `bad`.

    zeros: accept rows of zeros and numbers of any size. Embeddings need a direction, so for them zero rows and rows
    whose
      norm leaves float32 are bad.
    """

    def of_block(block: np.ndarray) -> np.ndarray:
        rows = block.reshape(len(block), -1)
        # NumPy is slow at numbers of 16 bits.
        small = rows.dtype.itemsize <= 2
        rows = rows.astype(np.float32 if small else np.result_type(rows, np.float32), copy=False)
        if zeros:
            return np.isfinite(rows).all(axis=1)
        largest = np.abs(rows).max(axis=1, initial=0)  # NaN where a number is
        return (largest > _SMALLEST) & (largest < _LARGEST)

    # In blocks: the mask of a large array is itself large.
    rows = max(1, _BLOCK // max(1, math.prod(array.shape[1:])))
    good = np.concatenate([of_block(np.asarray(array[i : i + rows])) for i in range(0, len(array), rows)])
    for row in np.flatnonzero(~good):
        values = np.asarray(array[row])
        what = "NaN" if np.isnan(values).any() else "infinity" if np.isinf(values).any() else "only zeros"
        if np.isfinite(values).all() and values.any():
            what = f"numbers up to {np.abs(values).max():.0e}, whose squares leave float32; scale all rows alike"
        bad.add(f"{path}: {name} row {row} holds {what}")
    return good


def split_names(path: pathlib.Path, arrays: dict[str, np.ndarray], n: int, bad: BadSamples) -> np.ndarray | None:
    """The split of each of n items, "" where it is unknown; None if the file has no array `split`."""
    given = optional_vector(path, arrays, "split", n)
    if given is None:
        return None
    given = text_vector(path, "split", given)
    names = {str(name): canonical_split(str(name)) for name in np.unique(given)}
    for row in np.flatnonzero([names[str(name)] is None for name in given]):
        bad.add(f"{path}: split row {row} is {str(given[row])!r}; known: train, val, test")
    return np.array([names[str(name)] or "" for name in given])
