"""Decoding every file of a data set once, before anything depends on it; what was found whole is remembered."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.audio import AudioColumn
from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column, PairSource
from alignment_jax.data.tars import FileSlice
from alignment_jax.data.validation import BadSamples

# Files that are decoded between two looks at the progress.
_BLOCK = 1024


def check_files(
    source: PairSource,
    *,
    threads: int = 2,
    memory: pathlib.Path | None = None,
    remember_from: int = 500,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Reads every image and every recording of all splits to its end.

    Args:
      source: a data set; of one without files, or whose files were decoded already, nothing is read.
      threads: files that are decoded at once.
      memory: a file of what was found whole earlier, by path, size and time of change; None to remember nothing. It is
        also written when the check is interrupted or fails, so that the next one goes on from there.
      remember_from: files that must have been decoded for it to be worth a file.
      progress: called now and then with (decoded, all that have to be).

    Raises:
      DataError: some cannot be read; the line names the first one and counts the others.

    >>> from alignment_jax.data import load
    >>> check_files(load("synthetic:train=8,val=2,test=2,size=16"))
    """
    files = [file for split in source.splits.values() for c in (split.a, split.b, split.c) for file in _files(c)]
    known = _recall(memory)
    left = [file for file in files if file.key is None or file.key not in known]
    bad, whole = BadSamples("error"), set[int]()
    try:
        with concurrent.futures.ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, len(left), _BLOCK):
                block = left[start : start + _BLOCK]
                for file, line in zip(block, pool.map(_File.fault, block), strict=True):
                    if line is not None:
                        bad.add(line)
                    elif file.key is not None:
                        whole.add(file.key)
                progress(min(start + _BLOCK, len(left)), len(left))
    finally:
        if memory is not None and len(whole) >= remember_from:
            # Only what is there: files that have changed are forgotten.
            _keep(memory, whole | (known & {file.key for file in files if file.key is not None}))
    bad.settle()


@dataclasses.dataclass(frozen=True)
class _File:
    """One file of a column. `key`: a number made of its path, size and time of change; None where it has none."""

    column: Column
    index: int
    key: int | None

    def fault(self) -> str | None:
        try:
            self.column.read(np.array([self.index]))
        except DataError as error:
            return str(error)
        return None


def _files(column: Column | None) -> Iterator[_File]:
    if not isinstance(column, ImageColumn | FrameColumn | AudioColumn) or column.verified:
        return
    if isinstance(column, FrameColumn):
        numbers = [number for index in range(len(column)) for number in column.numbers(index)]
        column = column.frames.take(np.array(numbers, np.int64))
    if isinstance(column, ImageColumn):
        # One pixel: a JPEG is still decoded whole, but reduced on the way.
        column = dataclasses.replace(column, shorter_side=1, cache=None)
    for index, item in enumerate(column.items):
        if item is not None and not isinstance(item, np.ndarray):
            yield _File(column, index, file_key(item))


def file_key(item: object) -> int | None:
    """A number made of path, size and time of change of a file or of a part of one; None where it has none."""
    path = item.archive if isinstance(item, FileSlice) else item
    if not isinstance(path, pathlib.Path):
        return None
    try:
        found = path.stat()
    except OSError:  # reading it says why
        return None
    part = (item.offset, item.size) if isinstance(item, FileSlice) else ()
    text = "\0".join(map(str, (path.absolute(), found.st_size, found.st_mtime_ns, *part)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _recall(memory: pathlib.Path | None) -> set[int]:
    """What was kept; nothing where that cannot be read, since checking again does no harm."""
    if memory is None:
        return set()
    try:
        return set(np.frombuffer(memory.read_bytes(), "<u8").tolist())
    except (OSError, ValueError):
        return set()


def _keep(memory: pathlib.Path, keys: set[int]) -> None:
    # A home that cannot be written costs only the time of the next check.
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        new = memory.with_name(f"{memory.name}.{os.getpid()}")
        new.write_bytes(np.array(sorted(keys), "<u8").tobytes())
        new.replace(memory)
