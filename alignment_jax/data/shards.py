"""Arrays larger than memory, as memory-mapped shards.

A folder of embeddings holds `manifest.json` and one folder per shard with an .npy file for each array of
`embeddings:FILE.npz`. `text_to_image` indexes the rows of its own shard, so that every shard is self-contained. Text is
stored as UTF-8 in fixed-width bytes (dtype S), which can be memory-mapped, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import pathlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.manifest_rows import Folder, read_text
from alignment_jax.data.unsupported_files import pickled_objects_message, refuse_unsupported

FORMAT, VERSION, MANIFEST = "alignment_jax embeddings", 1, "manifest.json"


class ShardedArray:
    """Several arrays as one; indexing reads only the selected rows.

    Args:
      parts: [n_i, ...] each, with equal dtypes and row shapes; usually memory maps.
      name: for messages.

    Raises:
      DataError: the parts differ in dtype or row shape, or there are none.

    >>> array = ShardedArray([np.arange(6.0).reshape(3, 2), np.ones((2, 2))])
    >>> array.shape, array[np.array([4, 0])].tolist(), array[2:4].tolist()
    ((5, 2), [[1.0, 1.0], [0.0, 1.0]], [[4.0, 5.0], [1.0, 1.0]])
    """

    def __init__(self, parts: Sequence[np.ndarray], name: str = "array"):
        if not parts:
            raise DataError(f"{name}: no shards")
        for part in parts:
            if (part.dtype, part.shape[1:]) != (parts[0].dtype, parts[0].shape[1:]):
                raise DataError(
                    f"{name}: shards must have one dtype and shape, but one has "
                    f"rows {part.dtype} {list(part.shape[1:])}, another {parts[0].dtype} {list(parts[0].shape[1:])}"
                )
        self.parts = tuple(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        self.dtype = parts[0].dtype
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        rows = np.asarray(index)
        if rows.ndim == 0:
            return self[rows[None]][0]
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        if rows.size and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows must be in [0, {len(self)}), got {rows.min()} to {rows.max()}")
        rows = np.where(rows < 0, rows + len(self), rows)
        # In file order: neighbours share a page, and every shard is read once.
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        ends = np.searchsorted(ascending, self._starts[1:])
        first = 0
        for part, start, end in zip(self.parts, self._starts[:-1], ends, strict=True):
            if end > first:
                out[order[first:end]] = part[ascending[first:end] - start]
                first = end
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(part.nbytes for part in self.parts)

    def expect_random_reads(self) -> None:
        """Turns off read-ahead of the operating system, for random access to rows."""
        for part in self.parts:
            mapped = getattr(part, "_mmap", None)
            if mapped is not None and hasattr(mmap, "MADV_RANDOM"):
                mapped.madvise(mmap.MADV_RANDOM)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.concatenate(self.parts)
        return whole if dtype is None else whole.astype(dtype)


@dataclasses.dataclass(frozen=True)
class StoredTextColumn:
    """Memory-mapped texts: UTF-8 in arrays of fixed-width bytes, one per shard.

    >>> StoredTextColumn.of([np.array(["a dog".encode()]), np.array(["Käse".encode()])]).read(np.array([1, 0]))
    ['Käse', 'a dog']
    """

    parts: tuple[np.ndarray, ...]
    starts: np.ndarray
    rows: np.ndarray | None = None
    name: str = "text"
    kind: str = "text"

    @classmethod
    def of(cls, parts: Sequence[np.ndarray], name: str = "text") -> StoredTextColumn:
        return cls(tuple(parts), np.concatenate([[0], np.cumsum([len(part) for part in parts])]), name=name)

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.rows is None else len(self.rows)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(indices, np.int64) if self.rows is None else self.rows[indices]

    def read(self, indices: np.ndarray) -> list[str]:
        rows = self._rows(np.asarray(indices)).tolist()
        shards = (np.searchsorted(self.starts, rows, side="right") - 1).tolist()
        try:
            return [_text(self.parts[k][row - self.starts[k]]) for k, row in zip(shards, rows, strict=True)]
        except UnicodeDecodeError:
            for index, (k, row) in enumerate(zip(shards, rows, strict=True)):
                try:
                    _text(self.parts[k][row - self.starts[k]])
                except UnicodeDecodeError as error:
                    where = self.describe(int(np.asarray(indices)[index]))
                    raise DataError(f"{where}: bytes that are not UTF-8") from error
            raise

    def take(self, indices: np.ndarray) -> StoredTextColumn:
        return dataclasses.replace(self, rows=self._rows(np.asarray(indices, np.int64)))

    def describe(self, index: int) -> str:
        return f"{self.name}, row {int(self._rows(np.asarray(index)))}"

    def identity(self, index: int, *, exact: bool) -> Hashable:
        return self.read(np.array([index]))[0]


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard of a manifest: number of rows of both sides, and the file and digest of every array."""

    name: str
    rows_a: int
    rows_b: int
    files: dict[str, pathlib.Path]
    digests: dict[str, str]


def read_shards(folder: pathlib.Path) -> tuple[list[Shard], dict[str, Any]]:
    """Reads the manifest of a folder: its shards in order, and all other entries.

    File sizes are compared with the manifest; contents are not read (see `damaged_files`).

    Raises:
      DataError: no manifest or another format, or a file is missing, outside of the folder or of another size.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST}: `alignment-jax extract --out DIR` has not finished; run it again. Folders "
            "of other tools need image.npy and text.npy, or img_emb/ and text_emb/"
        )
    try:
        found = json.loads(read_text(path))
        if (found["format"], found["version"]) != (FORMAT, VERSION):
            raise DataError(f"{path}: format {found['format']!r}, version {found['version']!r} is unknown")
        inside = Folder(folder)
        shards = []
        for entry in found.pop("shards"):
            files, digests = {}, {}
            for name, file in entry["files"].items():
                files[name] = inside.find(file["path"], where=f"{path}, shard {entry['name']}")
                digests[name] = file["blake2b"]
                size = files[name].stat().st_size
                if size != file["bytes"]:
                    raise DataError(f"{files[name]}: {size} bytes, but {MANIFEST} says {file['bytes']}; copy it again")
            shards.append(Shard(entry["name"], entry["rows_a"], entry["rows_b"], files, digests))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a manifest of embeddings ({type(error).__name__}: {error})") from error
    if not shards:
        raise DataError(f"{path}: no shards")
    names = set(shards[0].files)
    for shard in shards:
        if set(shard.files) != names:
            raise DataError(f"{path}: shard {shard.name} holds {sorted(shard.files)}, another {sorted(names)}")
    return shards, found


def map_array(path: pathlib.Path) -> np.ndarray:
    """Memory-maps the array of an .npy file; only its header is read.

    Raises:
      DataError: it is not an .npy file, is truncated, or holds pickled objects.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # NumPy's errors for a damaged header have no common base class
        refuse_unsupported(path)
        if "Python objects" in str(error):
            raise DataError(f"not a readable .npy array: {pickled_objects_message(path, 'it')}") from error
        cut = "it is truncated" if "mmap length" in str(error) else "its header is damaged or missing"
        raise DataError(f"{path}: not a readable .npy array ({cut}); copy it again or write it with np.save") from error


def digest_of(path: pathlib.Path) -> str:
    """blake2b of a file, 128 bits, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def damaged_files(shards: Sequence[Shard]) -> Iterator[str]:
    """Yields a message for every file with a wrong checksum. Reads all files."""
    for shard in shards:
        for name, path in shard.files.items():
            if digest_of(path) != shard.digests[name]:
                yield f"{path}: damaged (its checksum is not the one in {MANIFEST}); copy it again or run extract again"
