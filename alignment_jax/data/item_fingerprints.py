"""Content hashes of items, to find the same content under another name."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError, RunError
from alignment_jax.core.storage import write_bytes_atomic
from alignment_jax.data.columns import ArrayColumn
from alignment_jax.data.disk_cache import LARGE, cached_array
from alignment_jax.data.shards import StoredTextColumn
from alignment_jax.data.split import Column, PairSplit
from alignment_jax.data.validation import file_key

# Largest memory-mapped array, in bytes, that is read for fingerprints.
MOST_READ = 2 << 30
_ROWS = 16384
_LAST_BITS = 1 << 24
_REMEMBER_FROM = 500  # smallest number of new entries for which the cache is written


@dataclasses.dataclass(frozen=True)
class ItemFingerprints:
    """Content fingerprints of one split, uint64.

    Attributes:
      a, b, c: [N], [M], [N] of the items of each side; c None where there is no third one.
      row: [N] of each a-item together with its b-items and its c-item.
      label: int32 [N] as in the split, or None.
    """

    a: np.ndarray
    b: np.ndarray
    row: np.ndarray
    c: np.ndarray | None = None
    label: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that are not None, by name."""
        every = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in every.items() if value is not None}

    def equals(self, other: ItemFingerprints) -> bool:
        """Whether both hold the same content in the same order."""
        one, two = self.arrays(), other.arrays()
        return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def item_fingerprints(split: PairSplit, *, memory: pathlib.Path | None = None) -> ItemFingerprints | None:
    """The fingerprints of a split; None if a memory-mapped column is too large to read (`MOST_READ`).

    Args:
      split: any split. Texts, numbers (as float32) and bytes of files are read once.
      memory: cache file of earlier fingerprints, by path, size and modification time of the files; None for no cache.

    Raises:
      DataError: a text is not UTF-8.

    >>> from alignment_jax.data import load
    >>> split = load("synthetic:train=8,val=2,test=2,size=16").splits["train"]
    >>> item_fingerprints(split).equals(item_fingerprints(split)), item_fingerprints(split).row.shape
    (True, (8,))
    """
    columns = [column for column in (split.a, split.b, split.c) if column is not None]
    if any(_bytes_on_disk(column) > MOST_READ for column in columns):
        return None
    with _remembered(memory) as known:
        a, b, *more = (_column_prints(column, known) for column in columns)
    # A sum does not depend on the order of the b-items.
    of_b = np.zeros(len(a), np.uint64)
    np.add.at(of_b, split.b_to_a, _mixed(b))
    row = _mixed(a) * np.uint64(3) + of_b
    if more:
        row = _mixed(row) + more[0]
    return ItemFingerprints(a, b, row, more[0] if more else None, split.label)


def _bytes_on_disk(column: Column) -> int:
    if isinstance(column, ArrayColumn) and column.mapped:
        return column.array.nbytes
    return sum(part.nbytes for part in column.parts) if isinstance(column, StoredTextColumn) else 0


def _column_prints(column: Column, known: dict[int, int]) -> np.ndarray:
    found = np.empty(len(column), np.uint64)
    if isinstance(column, ArrayColumn) or column.kind == "text":
        return cached_array("array_fingerprints", len(column), (column,), lambda: _row_prints(column))
    keys = [file_key(item) for item in getattr(column, "items", (None,) * len(column))]
    left = [i for i, key in enumerate(keys) if key is None or key not in known]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # I/O-bound
        fresh = dict(zip(left, pool.map(lambda i: _content(column, i), left), strict=True))
    for i, key in enumerate(keys):
        value = fresh[i] if i in fresh else known[key]  # type: ignore[index]
        found[i] = _print(_bytes_of(column.describe(i))) if value is None else value
        if key is not None and value is not None:
            known[key] = value
    return found


def _row_prints(column: Column) -> np.ndarray:
    found = np.empty(len(column), np.uint64)
    for start in range(0, len(column), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(column)))
        found[rows] = [_print(_bytes_of(item)) for item in column.read(rows)]
    return found


def _content(column: Column, index: int) -> int | None:
    """None for an unreadable file, which equals no other and is reported on decoding."""
    try:
        return _print(_bytes_of(column.identity(index, exact=True)))
    except (OSError, DataError):
        return None


def _bytes_of(value: Any) -> bytes | memoryview:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    if isinstance(value, tuple):
        return b"".join(map(_bytes_of, value))
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _print(content: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mixes the bits of each number, so that sums of different numbers differ."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@contextlib.contextmanager
def _remembered(memory: pathlib.Path | None) -> Iterator[dict[int, int]]:
    """The cache as a dict; entries that the block adds are saved."""
    known: dict[int, int] = {}
    if memory is not None:
        with contextlib.suppress(OSError, ValueError):  # a damaged cache is ignored
            pairs = np.frombuffer(memory.read_bytes(), "<u8").reshape(-1, 2)
            known = dict(zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), strict=True))
    before = len(known)
    yield known
    if memory is not None and len(known) - before >= _REMEMBER_FROM:
        with contextlib.suppress(RunError):  # a cache that cannot be written only costs time in the next call
            write_bytes_atomic(memory, np.array(list(known.items()), "<u8").tobytes())


def match_splits(
    split: ItemFingerprints, kept: Mapping[str, ItemFingerprints], sides: Sequence[str] = ("row", "a")
) -> np.ndarray:
    """int64 [N]: the index of the split in `kept` that has the same content as each a-item, -1 for none.

    Args:
      split: fingerprints of N a-items.
      kept: splits to search; the first match wins.
      sides: fields to compare, tried in this order.

    >>> one = ItemFingerprints(np.array([1, 2], np.uint64), np.array([5], np.uint64), np.array([6, 7], np.uint64))
    >>> match_splits(one, {"train": one}).tolist()
    [0, 0]
    """
    found = np.full(len(split.a), -1)
    for side in sides:
        own = getattr(split, side)
        for number, part in enumerate(kept.values()):
            found[(found < 0) & contained(own, getattr(part, side))] = number
    return found


def contained(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool [n], whether each of `values` [n] is one of `others` [m], both uint64 fingerprints.

    Of millions few are compared: those that agree in their last bits. Sorting them all would take seconds.

    >>> contained(np.array([3, 1, 9], np.uint64), np.array([1, 3, 3], np.uint64)).tolist()
    [True, True, False]
    """
    if len(others) < LARGE:
        return np.isin(values, others)
    last = np.uint64(_LAST_BITS - 1)
    table = np.zeros(_LAST_BITS, bool)
    table[values & last] = True
    return np.isin(values, others[table[others & last]])
