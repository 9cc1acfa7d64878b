"""A cache on disk of what is computed row by row from large data, with the data's content as key.

One pass over bytes takes a second where a hash of each of ten million rows takes minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import RunError
from alignment_jax.core.storage import write_bytes_atomic

LARGE = 500_000  # rows from which a result is kept
_ROWS = 1 << 16
_FILES = 8  # of a kind; the least recently used ones are removed


def content_key(*parts: Any) -> str | None:
    """A digest of columns, arrays, texts and None; None for a column whose content is not in memory.

    >>> content_key(np.arange(3), "a", None) == content_key(np.arange(3), "b", None)
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        blocks = _blocks(part)
        if blocks is None:
            return None
        for block in blocks:
            digest.update(block)
        digest.update(b"\n")
    return digest.hexdigest()


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
    if key is None:
        return compute()
    path = pathlib.Path.home() / ".cache" / "alignment_jax" / kind / f"{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # none yet, or damaged
        found = np.load(path, allow_pickle=False)
        path.touch()
        return found
    found = compute()
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    with contextlib.suppress(OSError, RunError):  # a cache that cannot be written only costs time in the next call
        write_bytes_atomic(path, buffer.getvalue())
        for old in sorted(path.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime)[:-_FILES]:
            old.unlink()
    return found
