"""What a data set holds, as a few letters: enough to notice that it is no longer what a run was trained on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
from collections.abc import Mapping

import numpy as np

from alignment_jax.data.shards import StoredTextColumn
from alignment_jax.data.split import Column, PairSplit


def fingerprints(splits: Mapping[str, PairSplit], *, exact: bool = False, probe: int = 0) -> dict[str, str]:
    """For every split a digest of its names, pairs, labels and items.

    Texts and arrays count with their content, files with their size, and what is mapped because memory does not hold it
    only with its number of rows: opening a set must not read all of it.

    Args:
      splits: name -> split.
      exact: files count with their content, too, and are read once.
      probe: so many rows of what is mapped, evenly spaced, count with their content.

    >>> from alignment_jax.data import load
    >>> one, other = (fingerprints(load(f"synthetic:train={n},val=2,test=2,size=16").splits) for n in (8, 9))
    >>> {name: one[name] == other[name] for name in one}["train"]
    False
    """
    return {name: _fingerprint(split, exact, probe) for name, split in splits.items()}


def _fingerprint(split: PairSplit, exact: bool, probe: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (split.b_to_a, split.label):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    for name in split.ids.tolist():
        digest.update(name.encode("utf-8", "surrogatepass") + b"\n")
    for column in (split.a, split.b, split.c):
        if column is None:
            continue
        digest.update(f"{column.kind} {len(column)}\n".encode())
        rows = range(len(column))
        if getattr(column, "mapped", False) or isinstance(column, StoredTextColumn):
            rows = range(0, len(column), max(1, -(-len(column) // probe))) if probe else range(0)
        # Threads are for files; what is in memory is faster without.
        with concurrent.futures.ThreadPoolExecutor(8) if exact else contextlib.nullcontext() as pool:
            each = functools.partial(_content, column, exact=exact)
            for found in (pool.map if pool else map)(each, rows):
                digest.update(found)
    return digest.hexdigest()


def _content(column: Column, index: int, *, exact: bool) -> bytes:
    try:
        found = column.identity(index, exact=exact)
    except OSError:
        return b"cannot be read"  # the turn of whoever reads it to say so, by file and row
    return found if isinstance(found, bytes) else f"{found}\n".encode("utf-8", "surrogatepass")
