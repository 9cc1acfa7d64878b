"""The data model: columns of items, pairs between them, and named splits.

A split has N a-items (such as images) and M b-items (such as captions). `b_to_a` is the a-item of each b-item; every
a-item has at least one b-item. A training sample is an a-item with one of its b-items.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.distinct_items import number_items
from alignment_jax.core.errors import ConfigError, DataError, one_line
from alignment_jax.data.disk_cache import cached_array
from alignment_jax.data.distinct_ids import all_distinct, is_known_distinct, remember_distinct
from alignment_jax.data.equal_rows import number_equal_rows
from alignment_jax.data.relevancy import Relevancy

if TYPE_CHECKING:
    from alignment_jax.data.columns import ArrayColumn

KINDS = ("embedding", "image", "text", "audio")
SPLITS = ("train", "val", "test")
NOTHING = ""  # the identity of a missing item
ALL = "all"  # the only split of a source without split information


@runtime_checkable
class Column(Protocol):
    """One side of the pairs: numbered items of one kind, read on demand."""

    @property
    def kind(self) -> str:
        """One of "embedding", "image", "text", "audio"."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> Any:
        """The items: an array [k, ...], a list of uint8 [H, W, 3] images, or a list of strings."""

    def take(self, indices: np.ndarray) -> Column:
        """The column of these items, in this order; nothing is read."""

    def describe(self, index: int) -> str:
        """File and row of the item, for error messages."""

    def identity(self, index: int, *, exact: bool) -> Hashable:
        """A key of the item's content; with `exact=False` cheap, but different contents may share it."""


_RENAMED = {
    "stat": "cluster_size",
    "stat_b": "cluster_size_b",
    "same_a": "content_ids_a",
    "same_b": "content_ids_b",
    "repeats": "duplicate_ids",
}


@renamed_attributes(_RENAMED)
@dataclasses.dataclass(frozen=True)
class PairSplit:
    """One split: N a-items, M b-items and their pairs.

    Attributes:
      a: column of N items.
      b: column of M items.
      b_to_a: int32 [M], the a-item of each b-item.
      ids: str [N], unique names of the a-items.
      label: int32 [N] class of each a-item, or None.
      cluster_size: float32 [N] size of each a-item's cluster or class, or None.
      cluster_size_b: float32 [M] size of each b-item's cluster, or None; a sample has the value of its b-item.
      id_a, id_b: int32 [N] and [M], content ids for the batches (from `content_ids_a`, `content_ids_b`), or None.
      c: column of N items of a third modality, or None; item i belongs to a-item i.
      extra_a, extra_b: further arrays or columns with N and M rows.
      present: side ("a", "b", "c") -> bool [N], whether a sample has that modality; sides without an entry are
        complete. For classification, where b-item i belongs to a-item i; missing items are placeholders.
      relevancy: graded relevancy of b-items for a-items, or None if `b_to_a` is all.
      original: the split before its columns were prepared for a model (texts tokenized, images downscaled), which
        determines duplicates; None if the columns are not prepared.
    """

    a: Column
    b: Column
    b_to_a: np.ndarray
    ids: np.ndarray
    label: np.ndarray | None = None
    cluster_size: np.ndarray | None = None
    cluster_size_b: np.ndarray | None = None
    id_a: np.ndarray | None = None
    id_b: np.ndarray | None = None
    c: Column | None = None
    extra_a: Mapping[str, np.ndarray | Column] = dataclasses.field(default_factory=dict)
    extra_b: Mapping[str, np.ndarray | Column] = dataclasses.field(default_factory=dict)
    relevancy: Relevancy | None = None
    original: PairSplit | None = None
    present: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n, m = len(self.a), len(self.b)
        for name, value, dtype, size in (
            ("b_to_a", self.b_to_a, np.int32, m),
            ("ids", self.ids, np.str_, n),
            ("label", self.label, np.int32, n),
            ("cluster_size", self.cluster_size, np.float32, n),
            ("cluster_size_b", self.cluster_size_b, np.float32, m),
            ("id_a", self.id_a, np.int32, n),
            ("id_b", self.id_b, np.int32, m),
        ):
            if value is None:
                continue
            array = np.asarray(value, dtype)
            if array.shape != (size,):
                raise DataError(f"{name} must have shape [{size}], got {list(array.shape)}")
            object.__setattr__(self, name, array)
        if self.c is not None and len(self.c) != n:
            raise DataError(f"c must have an item for each of {n} a-items, got {len(self.c)}")
        for side, size in (("extra_a", n), ("extra_b", m)):
            for name, value in getattr(self, side).items():
                if len(value) != size:
                    raise DataError(f"{side}[{name!r}] must have {size} rows, got {len(value)}")
        for side, has in self.present.items():
            if np.shape(has) != (n,) or np.asarray(has).dtype != bool:
                raise DataError(f"present[{side!r}] must be bool [{n}], got {np.asarray(has).dtype} {np.shape(has)}")
        if not self._one_to_one:
            if m and (self.b_to_a.min() < 0 or self.b_to_a.max() >= n):
                raise DataError(f"b_to_a must be in [0, {n}), got {self.b_to_a.min()} to {self.b_to_a.max()}")
            alone = np.flatnonzero(np.bincount(self.b_to_a, minlength=n) == 0)
            if alone.size:
                raise DataError(f"{self.a.describe(int(alone[0]))} has no pair ({alone.size} such a-items)")
        if not is_known_distinct(self.ids):
            if not all_distinct(self.ids):
                raise DataError("ids must be unique")
            # A view, because the caller may change its own array.
            object.__setattr__(self, "ids", remember_distinct(self.ids.view()))

    def __len__(self) -> int:
        return len(self.a)

    @functools.cached_property
    def _one_to_one(self) -> bool:
        """Whether b-item i belongs to a-item i: what follows from that is not computed for millions of rows."""
        return len(self.a) == len(self.b) and np.array_equal(self.b_to_a, np.arange(len(self.a), dtype=np.int32))

    @functools.cached_property
    def _by_a(self) -> tuple[np.ndarray, np.ndarray]:
        if self._one_to_one:
            places = np.arange(len(self.a) + 1)
            return places[:-1], places
        order = np.argsort(self.b_to_a, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.b_to_a, minlength=len(self.a)))])
        return order, starts

    @functools.cached_property
    def content_ids_a(self) -> np.ndarray:
        """int32 [N], equal for a-items of equal content (bytes of a file, values of an array, characters of a text).

        The ids are 0, 1, ... in the order of first occurrence. Memory-mapped arrays are not read: every row has its own
        id.

        >>> from alignment_jax.data.columns import ArrayColumn, TextColumn
        >>> column = TextColumn(("a dog", "a cat", "a dog"))
        >>> PairSplit(ArrayColumn(np.eye(3)), column, np.arange(3), np.array(list("xyz"))).content_ids_b
        array([0, 1, 0], dtype=int32)
        """
        return _content_numbers(self.a) if self.original is None else self.original.content_ids_a

    @functools.cached_property
    def content_ids_b(self) -> np.ndarray:
        """int32 [M], `content_ids_a` for b-items."""
        return _content_numbers(self.b) if self.original is None else self.original.content_ids_b

    @property
    def duplicate_ids(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(`content_ids_a`, `content_ids_b`), None for a side without duplicates."""
        return tuple(
            same if same.max(initial=-1) + 1 < len(same) else None for same in (self.content_ids_a, self.content_ids_b)
        )  # type: ignore[return-value]

    def b_of_a(self, index: int) -> np.ndarray:
        """The b-items of an a-item, in the order of the data: int64 [>= 1]."""
        order, starts = self._by_a
        return order[starts[index] : starts[index + 1]]

    def pick_b(self, indices: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """One b-item for each a-item: its number floor(u * count), u in [0, 1); the first one without `uniform`."""
        order, starts = self._by_a
        first, count = starts[indices], starts[np.asarray(indices) + 1] - starts[indices]
        offset = 0 if uniform is None else np.minimum((uniform * count).astype(np.int64), count - 1)
        return order[first + offset]

    def subset(self, indices: np.ndarray, *, keep_b: np.ndarray | None = None) -> PairSplit:
        """These a-items, in this order, with all their b-items, or with those of `keep_b`, bool [M]."""
        indices = np.asarray(indices, np.int64)
        owner = np.arange(len(indices), dtype=np.int32)
        if self._one_to_one:
            kept_b = indices
        else:
            order, starts = self._by_a
            count = starts[indices + 1] - starts[indices]
            owner = np.repeat(owner, count)
            # The k-th b-item of an a-item is k places after its first one.
            place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
            kept_b = order[np.repeat(starts[indices], count) + place]
        if keep_b is not None:
            kept = keep_b[kept_b]
            kept_b, owner = kept_b[kept], owner[kept]
        ids = self.ids[indices]
        if (indices[1:] > indices[:-1]).all():
            ids = remember_distinct(ids)
        part = PairSplit(
            a=self.a.take(indices),
            b=self.b.take(kept_b),
            b_to_a=owner,
            ids=ids,
            label=None if self.label is None else self.label[indices],
            cluster_size=None if self.cluster_size is None else self.cluster_size[indices],
            cluster_size_b=None if self.cluster_size_b is None else self.cluster_size_b[kept_b],
            id_a=None if self.id_a is None else self.id_a[indices],
            id_b=None if self.id_b is None else self.id_b[kept_b],
            c=None if self.c is None else self.c.take(indices),
            extra_a={k: _rows_of(v, indices) for k, v in self.extra_a.items()},
            extra_b={k: _rows_of(v, kept_b) for k, v in self.extra_b.items()},
            relevancy=None if self.relevancy is None else self.relevancy.subset(indices, kept_b),
            original=None if self.original is None else self.original.subset(indices, keep_b=keep_b),
            present={side: has[indices] for side, has in self.present.items()},
        )
        for side, kept in (("a", indices), ("b", kept_b)):
            if (known := self.__dict__.get(f"content_ids_{side}")) is not None:
                part.__dict__[f"content_ids_{side}"] = number_items(known[kept])[1].astype(np.int32)
        return part

    def replace(self, **changes: Any) -> PairSplit:
        """A validated copy with some fields changed."""
        changed = dataclasses.replace(self, **changes)
        # Keep content ids: computing them hashes files.
        for side in ("a", "b"):
            known = self.__dict__.get(f"content_ids_{side}")
            if known is not None and not changes.keys() & {side, "original"}:
                changed.__dict__[f"content_ids_{side}"] = known
        return changed


def _rows_of(values: np.ndarray | Column, rows: np.ndarray) -> np.ndarray | Column:
    return np.asarray(values)[rows] if not isinstance(values, Column) else values.take(rows)


@dataclasses.dataclass(frozen=True)
class PairSource:
    """A data set.

    Attributes:
      name: the source's name in a SPEC ("flickr", ...).
      spec: the SPEC it was loaded from.
      splits: name -> split; the names are train, val, test, or the single name "all" when `has_splits` is False.
      has_splits: the data defines its splits.
      problems: one line for each skipped sample (`on_bad_sample="skip"`).
      notes: one line for each remark that is not a problem.
      label_names: class names, in the order of `label`, or None.
      hints: augmentation that suits the data: "flip" (bool; False for captions with left and right), "crop_scale"
        (smallest share of the area).
      modalities: names of the columns in tables and plots, a first.
      from_label: sides ("b") whose items are made from the class, so that a classifier could read the answer.
      unpaired: side ("a", "b") -> latents without partners, of the width of that side.
      encoders: side ("a", "b") -> record of the encoder that made its latents, see `extract.reopen`; empty where the
        file names none.
    """

    name: str
    spec: str
    splits: Mapping[str, PairSplit]
    has_splits: bool = True
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] | None = None
    hints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    modalities: tuple[str, ...] = ("image", "text")
    from_label: tuple[str, ...] = ()
    unpaired: Mapping[str, ArrayColumn] = dataclasses.field(default_factory=dict)
    encoders: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # They quote file content and are shown in terminals and pages.
        for name in ("problems", "notes", "modalities"):
            object.__setattr__(self, name, tuple(one_line(line) for line in getattr(self, name)))

    def split(self, name: str) -> PairSplit:
        """The split of this name.

        Raises:
          DataError: there is none; the message lists the splits.
        """
        if name not in self.splits:
            raise DataError(f"{self.spec}: no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]


def split_by_name(whole: PairSplit, names: Sequence[str] | None) -> tuple[dict[str, PairSplit], bool]:
    """`(splits, has_splits)` of a data set, by the split name of each a-item (None: no split information)."""
    if names is None:
        return {ALL: whole}, False
    present = [name for name in SPLITS if name in set(names)]
    each = np.asarray(names)
    return {name: whole.subset(np.flatnonzero(each == name)) for name in present}, True


def canonical_split(name: str) -> str | None:
    """train, val or test for their common spellings, else None.

    >>> canonical_split("Validation"), canonical_split("restval"), canonical_split("spare")
    ('val', 'train', None)
    """
    spellings = {
        "train": ("train", "training", "restval"),  # restval: the part of COCO val that Karpathy adds to training
        "val": ("val", "valid", "validation", "dev"),
        "test": ("test", "testing"),
    }
    key = name.strip().lower()
    return next((split for split, known in spellings.items() if key in known), None)


def read_split(name: str, *, where: str) -> str:
    """`canonical_split` of a cell.

    Args:
      name: the cell.
      where: file and row, for the message.

    Raises:
      DataError: it is empty or not a split.
    """
    split = canonical_split(name)
    if split is None:
        what = f"unknown split {name!r}" if name else "no split, but other rows have one"
        raise DataError(f"{where}: {what}; known: train, val, test")
    return split


def content_groups(*columns: Column) -> list[np.ndarray]:
    """For each column int64 [len]: items, also of different columns, share a number if their content is equal.

    A cheap key (the size of a file) is compared first; content is read only if the keys are equal.
    """
    if all(hasattr(column, "row_bytes") and len(column) for column in columns):
        known = [(column.row_bytes, len(column)) for column in columns]  # type: ignore[attr-defined]
        widths = {rows(np.zeros(1, np.int64)).shape[1] for rows, _ in known}
        if len(widths) == 1 and (numbered := number_equal_rows(known)) is not None:
            return numbered
    cheap = [[_identity(column, i, exact=False) for i in range(len(column))] for column in columns]
    count: dict[Hashable, int] = {}
    for key in (key for keys in cheap for key in keys):
        count[key] = count.get(key, 0) + 1
    numbers: dict[Hashable, int] = {}
    groups = []
    for column, keys in zip(columns, cheap, strict=True):
        full = [(k, _identity(column, i, exact=True)) if count[k] > 1 else (k, None) for i, k in enumerate(keys)]
        groups.append(np.array([numbers.setdefault(key, len(numbers)) for key in full], np.int64))
    return groups


def _content_numbers(column: Column) -> np.ndarray:
    if getattr(column, "mapped", False):
        return np.arange(len(column), dtype=np.int32)
    return content_groups(column)[0].astype(np.int32)


def _identity(column: Column, index: int, *, exact: bool) -> Hashable:
    """The identity of an item; missing items and unreadable files equal no other item."""
    try:
        found = column.identity(index, exact=exact)
    except OSError:  # reading the file reports it
        return "unreadable", column.describe(index)
    return ("missing", column.describe(index)) if found == NOTHING else found


def with_splits(
    source: PairSource, seed: int = 0, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> PairSource:
    """The source with train, val and test.

    A source with splits keeps them; without val, val is cut out of train in the proportion of `fractions`. A source
    without splits is cut into three. The a-items are ranked by a hash of (seed, id), so the cut depends on neither
    their order nor the machine. Duplicate a-items stay in one split, and so do a-items that share an image or a
    recording as b-item. Memory-mapped arrays are not searched for duplicates, because that would read all of them.

    Args:
      source: a data set.
      seed: of the hash.
      fractions: shares of train, val, test; positive, with sum 1.

    Returns:
      A source with `has_splits` True; no split is empty.

    Raises:
      ConfigError: fractions are not three positive shares of 1.
      DataError: fewer than three different a-items (two if only val is missing).

    >>> import alignment_jax as aj
    >>> source = aj.data.load("synthetic:train=8,val=2,test=2,size=16")
    >>> aj.data.with_splits(source) is source  # it has its own
    True
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"fractions must be three positive numbers that sum to 1, got {fractions}")
    if source.has_splits:
        if "train" not in source.splits or "val" in source.splits:
            return source
        train, val = fractions[0] / (fractions[0] + fractions[1]), fractions[1] / (fractions[0] + fractions[1])
        parts = _cut(source.splits["train"], {"train": train, "val": val}, seed, source.spec)
        rest = {name: split for name, split in source.splits.items() if name != "train"}
        return dataclasses.replace(source, splits={**parts, **rest})
    parts = _cut(source.splits[ALL], dict(zip(SPLITS, fractions, strict=True)), seed, source.spec)
    return dataclasses.replace(source, splits=parts, has_splits=True)


def _joined(group: np.ndarray, group_b: np.ndarray, b_to_a: np.ndarray) -> np.ndarray:
    """Groups of a-items, int64 [N] from 0 without gaps; a-items with equal b-items are merged.

    Not used for texts: equal captions in two splits are common and harmless, equal images are not.

    >>> _joined(np.array([0, 1, 2, 3]), np.array([7, 8, 7, 9]), np.array([0, 1, 2, 3])).tolist()
    [0, 1, 0, 2]
    """
    parent = np.arange(group.max(initial=-1) + 1)

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = int(parent[number])
        return number

    owner: dict[int, int] = {}
    for number, item in zip(group_b.tolist(), group[b_to_a].tolist(), strict=True):
        first = owner.setdefault(number, item)
        parent[max(root(first), root(item))] = min(root(first), root(item))
    return np.unique([root(number) for number in group.tolist()], return_inverse=True)[1].astype(np.int64)


def _least_of_groups(group: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The smallest id of each group, which represents it: the cut must not depend on the order of the items.

    >>> _least_of_groups(np.array([0, 1, 0]), np.array(["b", "c", "a"])).tolist()
    ['a', 'c']
    """
    if np.array_equal(group, np.arange(len(group))):
        return ids
    count = np.bincount(group)
    names = np.empty(len(count), ids.dtype)
    names[group] = ids
    least: dict[int, str] = {}
    repeated = np.flatnonzero(count[group] > 1)
    for number, name in zip(group[repeated].tolist(), ids[repeated].tolist(), strict=True):
        least[number] = min(least.get(number, name), name)
    for number, name in least.items():
        names[number] = name
    return names


def _cut(whole: PairSplit, shares: Mapping[str, float], seed: int, spec: str) -> dict[str, PairSplit]:
    if getattr(whole.a, "mapped", False):
        group, names = np.arange(len(whole)), whole.ids
    else:
        group = whole.content_ids_a
        if whole.label is None and whole.b.kind in ("image", "audio"):
            group = _joined(group, content_groups(whole.b)[0], whole.b_to_a)
        names = _least_of_groups(group, whole.ids)
    n, k = len(names), len(shares)

    def by_hash() -> np.ndarray:
        digests = (hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names)
        return np.argsort(np.fromiter(digests, "S32", n), kind="stable")

    ranked = cached_array("split_orders", n, (str(seed), names), by_hash)
    if n < k:
        raise DataError(f"{spec}: {n} different a-items cannot be cut into {', '.join(shares)}; it takes at least {k}")
    ends = np.rint(np.cumsum(list(shares.values())) * n).astype(int)
    for i in range(k):  # at least one item each
        low = ends[i - 1] + 1 if i else 1
        ends[i] = min(max(ends[i], low), n - (k - 1 - i))
    position = np.empty(n, np.int64)
    position[ranked] = np.arange(n)
    which = np.searchsorted(ends, position[group], side="right")
    return {name: whole.subset(np.flatnonzero(which == i)) for i, name in enumerate(shares)}
