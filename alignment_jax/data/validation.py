"""Decodes every file of a data set once, to find the ones that cannot be read before a run depends on them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from alignment_jax.core.errors import DataError, RunError
from alignment_jax.core.storage import write_bytes_atomic
from alignment_jax.data.audio import AudioColumn
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column, PairSource
from alignment_jax.data.tars import FileSlice

# Files between two calls of `progress`.
_BLOCK = 1024


def check_files(
    source: PairSource,
    *,
    threads: int = 2,
    memory: pathlib.Path | None = None,
    remember_from: int = 500,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Decodes every image and every recording of all splits.

    Args:
      source: a data set. Columns without files, and columns that were decoded before (`verified`), are not read.
      threads: files that are decoded in parallel.
      memory: cache file of the files that passed earlier, by path, size and modification time; None for no cache. It is
        also written after an interruption or a failure, so that the next check continues from there.
      remember_from: smallest number of decoded files for which the cache is written.
      progress: called with (files decoded, files to decode) after every block.

    Raises:
      DataError: files cannot be read; the message names the first one and counts the others.

    >>> from alignment_jax.data import load
    >>> check_files(load("synthetic:train=8,val=2,test=2,size=16"))
    """
    files = [file for split in source.splits.values() for c in (split.a, split.b, split.c) for file in _files(c)]
    known = _read_cache(memory)
    left = [file for file in files if file.key is None or file.key not in known]
    bad, whole = BadSamples("error"), set[int]()
    try:
        with concurrent.futures.ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, len(left), _BLOCK):
                block = left[start : start + _BLOCK]
                for file, line in zip(block, pool.map(_File.error, block), strict=True):
                    if line is not None:
                        bad.add(line)
                    elif file.key is not None:
                        whole.add(file.key)
                progress(min(start + _BLOCK, len(left)), len(left))
    finally:
        if memory is not None and len(whole) >= remember_from:
            # Entries of files that have changed or are gone are dropped.
            _write_cache(memory, whole | (known & {file.key for file in files if file.key is not None}))
    bad.finish()


def decoding_errors(column: Column) -> Iterator[tuple[int, str]]:
    """`(index, message)` of every item whose file cannot be decoded; none for a column that was decoded before.

    Args:
      column: images, clips of frames or recordings; other columns have no files to decode.
    """
    for file in _files(column):
        message = file.error()
        if message is not None:
            yield file.item, message


@dataclasses.dataclass(frozen=True)
class _File:
    """One file of a column.

    Attributes:
      column, index: where it is read.
      item: the item of the original column that it belongs to.
    """

    column: Column
    index: int
    item: int

    @functools.cached_property
    def key(self) -> int | None:
        return file_key(self.column.items[self.index])  # type: ignore[attr-defined]

    def error(self) -> str | None:
        try:
            self.column.read(np.array([self.index]))
        except DataError as error:
            return str(error)
        return None


def _files(column: Column | None) -> Iterator[_File]:
    if not isinstance(column, ImageColumn | FrameColumn | AudioColumn) or column.verified:
        return
    owner: list[int] | range = range(len(column))
    if isinstance(column, FrameColumn):
        owner = [index for index in range(len(column)) for _ in column.numbers(index)]
        numbers = [number for index in range(len(column)) for number in column.numbers(index)]
        column = column.frames.take(np.array(numbers, np.int64))
    if isinstance(column, ImageColumn):
        # One pixel: a JPEG is still decoded to its end, at reduced resolution.
        column = dataclasses.replace(column, shorter_side=1, cache=None)
    for index, item in enumerate(column.items):
        if item is not None and not isinstance(item, np.ndarray):
            yield _File(column, index, owner[index])


def file_key(item: object) -> int | None:
    """A hash of path, size and modification time of a file or a part of one; None for items without a path."""
    path = item.archive if isinstance(item, FileSlice) else item
    if not isinstance(path, pathlib.Path):
        return None
    try:
        found = path.stat()
    except OSError:  # reading the file reports it
        return None
    part = (item.offset, item.size) if isinstance(item, FileSlice) else ()
    text = "\0".join(map(str, (path.absolute(), found.st_size, found.st_mtime_ns, *part)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _read_cache(memory: pathlib.Path | None) -> set[int]:
    """The cached keys; none if the cache cannot be read, since checking twice does no harm."""
    if memory is None:
        return set()
    try:
        return set(np.frombuffer(memory.read_bytes(), "<u8").tolist())
    except (OSError, ValueError):
        return set()


def _write_cache(memory: pathlib.Path, keys: set[int]) -> None:
    # A cache that cannot be written only costs time in the next check.
    with contextlib.suppress(RunError):
        write_bytes_atomic(memory, np.array(sorted(keys), "<u8").tobytes())
