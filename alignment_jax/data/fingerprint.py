"""What a data set holds, as a few letters: enough to notice that it is no longer what a run was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from alignment_jax.data.shards import StoredTextColumn
from alignment_jax.data.split import PairSplit


def fingerprints(splits: Mapping[str, PairSplit]) -> dict[str, str]:
    """For every split a digest of its names, pairs, labels and items.

    Texts and arrays count with their content, files with their size, and what is mapped because memory does not hold it
    only with its number of rows: opening a set must not read all of it.

    >>> from alignment_jax.data import load
    >>> one, other = (fingerprints(load(f"synthetic:train={n},val=2,test=2,size=16").splits) for n in (8, 9))
    >>> {name: one[name] == other[name] for name in one}["train"]
    False
    """
    return {name: _fingerprint(split) for name, split in splits.items()}


def _fingerprint(split: PairSplit) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (split.b_to_a, split.label):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    for name in split.ids.tolist():
        digest.update(name.encode("utf-8", "surrogatepass") + b"\n")
    for column in (split.a, split.b, split.c):
        if column is None:
            continue
        digest.update(f"{column.kind} {len(column)}\n".encode())
        if getattr(column, "mapped", False) or isinstance(column, StoredTextColumn):
            continue
        for index in range(len(column)):
            found = column.identity(index, exact=False)
            digest.update(found if isinstance(found, bytes) else f"{found}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
