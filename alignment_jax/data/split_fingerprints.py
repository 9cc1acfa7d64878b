"""Digests of splits, to detect that a data set has changed since a run was trained on it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from alignment_jax.data.disk_cache import cached_array
from alignment_jax.data.shards import StoredTextColumn
from alignment_jax.data.split import Column, PairSource, PairSplit


def fingerprints(source: PairSource, *, exact: bool = False, probe: int = 0) -> dict[str, str]:
    """A digest of the ids, pairs, labels and items of every split; unpaired latents enter that of "train".

    Texts and arrays enter with their content, files with their size, and memory-mapped columns only with their number
    of rows, because opening a data set must not read all of it.

    Args:
      source: the data set.
      exact: files enter with their content, too, which reads them once.
      probe: number of evenly spaced rows of memory-mapped columns that enter with their content.

    >>> from alignment_jax.data import load
    >>> one, other = (fingerprints(load(f"synthetic:train={n},val=2,test=2,size=16")) for n in (8, 9))
    >>> {name: one[name] == other[name] for name in one}["train"]
    False
    """
    unpaired = [column for _, column in sorted(source.unpaired.items())]
    return {
        name: _kept_fingerprint(split, unpaired if name == "train" else [], exact, probe)
        for name, split in source.splits.items()
    }


def _kept_fingerprint(split: PairSplit, unpaired: Sequence[Column], exact: bool, probe: int) -> str:
    def compute() -> np.ndarray:
        return np.frombuffer(_fingerprint(split, unpaired, exact, probe).encode(), np.uint8)

    parts = (f"{exact} {probe}", split.b_to_a, split.label, split.ids, split.a, split.b, split.c, *unpaired)
    return cached_array("split_fingerprints", len(split), parts, compute).tobytes().decode()


def _fingerprint(split: PairSplit, unpaired: Sequence[Column], exact: bool, probe: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (split.b_to_a, split.label):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    for name in split.ids.tolist():
        digest.update(name.encode("utf-8", "surrogatepass") + b"\n")
    for column in (split.a, split.b, split.c, *unpaired):
        if column is None:
            continue
        digest.update(f"{column.kind} {len(column)}\n".encode())
        rows = range(len(column))
        if getattr(column, "mapped", False) or isinstance(column, StoredTextColumn):
            rows = range(0, len(column), max(1, -(-len(column) // probe))) if probe else range(0)
        # Threads help only for files.
        with concurrent.futures.ThreadPoolExecutor(8) if exact else contextlib.nullcontext() as pool:
            each = functools.partial(_content, column, exact=exact)
            for found in (pool.map if pool else map)(each, rows):
                digest.update(found)
    return digest.hexdigest()


def _content(column: Column, index: int, *, exact: bool) -> bytes:
    try:
        found = column.identity(index, exact=exact)
    except OSError:
        return b"cannot be read"  # reading the file reports it
    return found if isinstance(found, bytes) else f"{found}\n".encode("utf-8", "surrogatepass")
