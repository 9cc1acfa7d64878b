"""Makes a source from rows of (item, partner, split); shared by all sources of paired files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.audio import AudioColumn
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import ImageColumn, ImageFile, TextColumn
from alignment_jax.data.split import Column, PairSource, PairSplit, canonical_split, read_split, split_by_name
from alignment_jax.data.validation import decoding_errors

# kind -> its column, from the items, their origins, and whether all were decoded
_COLUMNS: dict[str, Callable[[tuple[Any, ...], tuple[str, ...], bool], Column]] = {
    "image": lambda items, where, verified: ImageColumn(items, where, verified=verified),
    "audio": lambda items, where, verified: AudioColumn(items, where, verified),
    "text": lambda items, where, verified: TextColumn(items, where),
}


class Pair(NamedTuple):
    """One pair.

    Attributes:
      item: name of the a-item in the manifest.
      partner: the b-item, a text or a file.
      split: None for no split information.
      where: file and row.
    """

    item: str
    partner: Any
    split: str | None
    where: str


@dataclasses.dataclass
class _Item:
    path: ImageFile
    split: str | None
    where: str
    partners: list[tuple[Any, str]]


def paired_source(
    pairs: Iterable[Pair],
    *,
    kinds: tuple[str, str],
    find: Callable[..., ImageFile],
    name: str,
    bad: BadSamples,
    notes: Iterable[str] = (),
    no_item: str,
    no_partner: str = "",
) -> PairSource:
    """Groups pairs by their a-item, checks every file and makes the splits.

    Args:
      pairs: in the order of the manifest.
      kinds: of a and b: ("image", "text"), ("audio", "text") or ("audio", "image").
      find: (name of an a-item, where=file and row) -> its file.
      name: name of the data set in messages.
      bad: collects problems; with "skip" every file is decoded here.
      notes: lines for `PairSource.notes`.
      no_item: message if no usable item is left.
      no_partner: message for an empty partner.

    Raises:
      DataError: a bad sample with "error", or no usable item.
    """
    items: dict[str, _Item | None] = {}
    for item, partner, split, where in pairs:
        if item not in items:
            try:
                path = find(item, where=where)
                known = None if split is None else read_split(split, where=where)
                items[item] = _Item(path, known, where, [])
            except DataError as error:
                bad.add(str(error))
                items[item] = None
        entry = items[item]
        if entry is None:
            continue
        if split is not None and canonical_split(split) != entry.split:
            bad.add(f"{where}: {item!r} is in split {split!r} here, but in {entry.split!r} at {entry.where}")
        elif not partner:
            bad.add(f"{where}: {no_partner}")
        else:
            entry.partners.append((partner, where))

    usable = {key: entry for key, entry in items.items() if entry is not None and entry.partners}
    if bad.skip:
        usable = _decodable(usable, kinds, bad)
    problems = bad.finish()
    if not usable:
        first = f"; first of {len(problems)} problems: {problems[0]}" if problems else ""
        raise DataError(f"{name}: {no_item}{first}")

    entries = list(usable.values())
    a, b = _columns(entries, kinds, verified=bad.skip)
    whole = PairSplit(
        a=a,
        b=b,
        b_to_a=np.repeat(np.arange(len(entries), dtype=np.int32), [len(e.partners) for e in entries]),
        ids=np.array(list(usable)),
    )
    names = None if entries[0].split is None else [e.split or "" for e in entries]
    splits, has_splits = split_by_name(whole, names)
    return PairSource(name, name, splits, has_splits, problems, tuple(notes), modalities=kinds)


def _columns(entries: Sequence[_Item], kinds: tuple[str, str], *, verified: bool) -> tuple[Column, Column]:
    owned = [partner for entry in entries for partner in entry.partners]
    return (
        _COLUMNS[kinds[0]](tuple(e.path for e in entries), tuple(e.where for e in entries), verified),
        _COLUMNS[kinds[1]](tuple(p for p, _ in owned), tuple(where for _, where in owned), verified),
    )


def _decodable(usable: dict[str, _Item], kinds: tuple[str, str], bad: BadSamples) -> dict[str, _Item]:
    """The items without files that cannot be decoded, and without items that lose all partners."""
    a, b = _columns(list(usable.values()), kinds, verified=False)
    broken_a, broken_b = dict(decoding_errors(a)), dict(decoding_errors(b))
    for line in (*broken_a.values(), *broken_b.values()):
        bad.add(line)
    kept, number = {}, 0
    for index, (key, entry) in enumerate(usable.items()):
        numbers = range(number, number + len(entry.partners))
        number += len(entry.partners)
        partners = [p for p, k in zip(entry.partners, numbers, strict=True) if k not in broken_b]
        if index not in broken_a and partners:
            kept[key] = dataclasses.replace(entry, partners=partners)
    return kept
