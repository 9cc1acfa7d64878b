"""A cache on disk of what is computed row by row from large data, and of indexes of large files.

The key of an array is the data's content: one pass over bytes takes a second where a hash of each of ten million rows
takes minutes. The key of an index is the state of its files, which are not read.
"""

from __future__ import annotations

import contextlib
import contextvars
import gzip
import hashlib
import io
import json
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from alignment_jax.core.errors import RunError
from alignment_jax.core.storage import write_bytes_atomic

LARGE = 500_000  # rows from which a result is kept
_ROWS = 1 << 16
_FILES = 8  # arrays of a kind; the least recently used ones are removed
_INDEXES = 10_000  # as many indexes of a kind
_SETTLED = 2.0  # seconds: within the resolution of a file system's clock, a second change keeps the times of the first
_T = TypeVar("_T")


# The digests of columns that `hash_once` remembers, by identity, with the columns so that no other takes their place.
_DIGESTS: contextvars.ContextVar[dict[int, tuple[Any, bytes]] | None] = contextvars.ContextVar("digests", default=None)


@contextlib.contextmanager
def hash_once() -> Iterator[None]:
    """In the block `content_key` reads a column or array once; their contents must not change."""
    token = _DIGESTS.set({})
    try:
        yield
    finally:
        _DIGESTS.reset(token)


def content_key(*parts: Any) -> str | None:
    """A digest of columns, arrays, texts and None; None for a column whose content is not in memory.

    >>> content_key(np.arange(3), "a", None) == content_key(np.arange(3), "b", None)
    False
    """
    found = [_digest(part) for part in parts]
    if None in found:
        return None
    return hashlib.blake2b(b"".join(found), digest_size=16).hexdigest()  # type: ignore[arg-type]


def _digest(part: Any) -> bytes | None:
    known = _DIGESTS.get()
    if known is not None and id(part) in known:
        return known[id(part)][1]
    blocks = _blocks(part)
    if blocks is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for block in blocks:
        digest.update(block)
    if known is not None:
        known[id(part)] = part, digest.digest()
    return digest.digest()


def _blocks(part: Any) -> Iterator[Any] | None:
    if part is None or isinstance(part, str):
        return iter([repr(part).encode("utf-8", "surrogatepass")])
    if isinstance(part, np.ndarray):
        return iter([f"{part.dtype.str}{part.shape}".encode(), np.ascontiguousarray(part).view(np.uint8).data])
    if hasattr(part, "row_bytes") and not part.mapped:
        return _array_blocks(part)
    texts = getattr(part, "texts", None)
    return None if texts is None else _text_blocks(part)


def _array_blocks(column: Any) -> Iterator[Any]:
    yield f"{column.kind} {column.array.dtype.str} {column.array.shape[1:]} {len(column)}".encode()
    for start in range(0, len(column), _ROWS):
        yield np.ascontiguousarray(column.row_bytes(np.arange(start, min(start + _ROWS, len(column))))).data


def _text_blocks(column: Any) -> Iterator[Any]:
    for start in range(0, len(column), _ROWS):
        texts = [text.encode("utf-8", "surrogatepass") for text in column.texts[start : start + _ROWS]]
        yield np.fromiter(map(len, texts), np.int64, len(texts)).data
        yield b"".join(texts)


def cached_array(kind: str, rows: int, parts: Sequence[Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of an earlier call with these parts, or `compute()`.

    Args:
      kind: name of the folder.
      rows: of the data; with fewer than `LARGE` nothing is kept.
      parts: what the result depends on, see `content_key`; a column that is not in memory keeps nothing.
      compute: () -> an array, without Python objects.
    """
    key = None if rows < LARGE else content_key(*parts)

    def to_bytes(found: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, found, allow_pickle=False)
        return buffer.getvalue()

    def read(path: pathlib.Path) -> np.ndarray:
        return np.load(path, allow_pickle=False)

    return _kept(kind, key, ".npy", _FILES, compute, read, to_bytes)


def files_key(paths: Iterable[str | os.PathLike[str]], *more: str) -> str | None:
    """A digest of texts and of the state of files: path, size, inode, and the times of the last write and last change.

    Every write sets the time of the last change, and no program can set it back, unlike the time of the last write.

    Returns:
      None if a file was changed within two seconds, or cannot be found.
    """
    state: list[object] = list(more)
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:  # reading the file reports it
            return None
        if time.time() - max(found.st_mtime, found.st_ctime) < _SETTLED:
            return None
        state += [os.path.realpath(path), found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    return content_key("\0".join(map(str, state)))


def cached_index(kind: str, key: str | None, compute: Callable[[], _T]) -> _T:
    """The value of an earlier call with this key, or `compute()`.

    Args:
      kind: name of the folder.
      key: see `files_key`; None keeps nothing.
      compute: () -> numbers, texts and None in lists and dicts. Errors pass through and keep nothing.
    """

    def to_bytes(found: _T) -> bytes:
        return gzip.compress(json.dumps(found).encode(), 1, mtime=0)

    def read(path: pathlib.Path) -> _T:
        return json.loads(gzip.decompress(path.read_bytes()))

    return _kept(kind, key, ".json.gz", _INDEXES, compute, read, to_bytes)


def _kept(
    kind: str,
    key: str | None,
    ending: str,
    most: int,
    compute: Callable[[], _T],
    read: Callable[[pathlib.Path], _T],
    to_bytes: Callable[[_T], bytes],
) -> _T:
    if key is None:
        return compute()
    path = pathlib.Path.home() / ".cache" / "alignment_jax" / kind / f"{key}{ending}"
    with contextlib.suppress(OSError, ValueError, EOFError, zlib.error):  # none yet, or damaged
        found = read(path)
        path.touch()
        return found
    found = compute()
    with contextlib.suppress(OSError, RunError):  # a cache that cannot be written only costs time in the next call
        write_bytes_atomic(path, to_bytes(found))
        files = list(path.parent.glob(f"*{ending}"))
        if len(files) > most:
            for old in sorted(files, key=lambda file: file.stat().st_mtime)[:-most]:
                old.unlink()
    return found
