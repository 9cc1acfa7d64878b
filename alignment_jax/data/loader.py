"""Batches of arrays from a split and an order of samples.

Every batch is a pure function of (split, order, seed, epoch, step). It does not depend on the number of threads or
processes, nor on interruptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.optional import require
from alignment_jax.data.columns import ArrayColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column, PairSplit
from alignment_jax.data.transforms import Transform

CHOICES = ("random", "first")
# Independent streams of random numbers.
_CAPTION, _VIEW_A, _VIEW_B, _AUGMENT_A, _AUGMENT_B, _VIEW_C, _AUGMENT_C = range(7)


def padded_rows(order: np.ndarray, batch_size: int, *, drop_remainder: bool = False) -> np.ndarray:
    """An order of samples as rows of batches, padded.

    Args:
      order: int [k], a-item numbers.
      batch_size: rows of a batch.
      drop_remainder: drop an incomplete last batch instead of padding it.

    Returns:
      int64 [steps, batch_size], -1 where padded.

    >>> padded_rows(np.array([3, 1, 2]), 2)
    array([[ 3,  1], [ 2, -1]])
    """
    order = np.asarray(order, np.int64)
    full, rest = divmod(len(order), batch_size)
    if rest and not drop_remainder:
        order, full = np.concatenate([order, np.full(batch_size - rest, -1, np.int64)]), full + 1
    return order[: full * batch_size].reshape(full, batch_size)


class TrainLoader:
    """Iterates over the batches of one epoch.

    A batch is a dict of arrays: `a` and `b` [B, ...], `index` int32 [B] (the a-item, -1 for padding), `where` bool [B].
    If the split has them: `c`, `stat` (cluster size) float32, `label`, `id_a`, `id_b` int32, and `has_a`, `has_b`,
    `has_c` bool [B] for modalities that some samples lack. Padded rows are zero. Floats are float32.

    Args:
      split: the pairs.
      rows: int64 [steps, B] a-item numbers, -1 for padding. A process that holds only some rows of each batch passes
        those columns.
      seed, epoch: with the a-item number they determine its b-item, view and augmentation; an a-item that occurs twice
        in an epoch is the same each time.
      transform_a, transform_b, transform_c: applied to each item; required for columns that do not hold arrays.
      threads: host threads that read and transform; columns in memory without transforms need none.
      start_step: first row of `rows` to yield, to resume an interrupted epoch.
      choice: "random" b-items and views, or the "first" of each (for scoring samples).

    Raises:
      ConfigError: rows, threads, start_step or choice are invalid.

    >>> import alignment_jax as aj
    >>> split = aj.data.load("synthetic:train=6,val=3,test=3,size=16").splits["train"]
    >>> split = split.replace(b=ArrayColumn(np.zeros((len(split.b), 4))))
    >>> loader = TrainLoader(
    ...     split, padded_rows(np.arange(6), 4), seed=0, epoch=0, transform_a=aj.data.eval_image(16), threads=1
    ... )
    >>> [(batch["a"].shape, batch["index"].tolist()) for batch in loader]
    [((4, 16, 16, 3), [0, 1, 2, 3]), ((4, 16, 16, 3), [4, 5, -1, -1])]
    """

    def __init__(
        self,
        split: PairSplit,
        rows: np.ndarray,
        *,
        seed: int,
        epoch: int,
        transform_a: Transform | None = None,
        transform_b: Transform | None = None,
        transform_c: Transform | None = None,
        threads: int = 2,
        start_step: int = 0,
        choice: str = "random",
    ):
        rows = np.asarray(rows)
        if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
            raise ConfigError(f"rows must be integers [steps, batch], got {rows.dtype} {list(rows.shape)}")
        if rows.size and (rows.min() < -1 or rows.max() >= len(split)):
            raise ConfigError(f"rows must be in [-1, {len(split)}), got {rows.min()} to {rows.max()}")
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        if not 0 <= start_step <= len(rows):
            raise ConfigError(f"start_step must be in [0, {len(rows)}], got {start_step}")
        if choice not in CHOICES:
            raise ConfigError(f"choice must be one of {', '.join(CHOICES)}, got {choice!r}")
        self._split, self._rows, self._seed, self._epoch = split, rows.astype(np.int64), seed, epoch
        self._transform_a, self._transform_b, self._transform_c = transform_a, transform_b, transform_c
        self._threads, self._start, self._choice = threads, start_step, choice

    def __len__(self) -> int:
        return len(self._rows) - self._start

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        transforms = (self._transform_a, self._transform_b, self._transform_c)
        columns = (self._split.a, self._split.b, self._split.c)
        # Reads of memory-mapped arrays may block: use threads for them, too.
        if not (any(transforms) or any(isinstance(x, ArrayColumn) and x.mapped for x in columns)):
            return (self.batch(step) for step in range(self._start, len(self._rows)))
        grain = require("grain", extra="train", purpose="read images on several threads")
        steps = grain.MapDataset.source(range(self._start, len(self._rows))).map(self.batch)
        # One batch in progress per thread, and one that is ready.
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads + 1)
        return iter(steps.to_iter_dataset(options))

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step, counted from the start of the epoch."""
        split, row = self._split, self._rows[step]
        where = row >= 0
        index = row[where]
        chosen_b = split.pick_b(index, self._uniform(index, _CAPTION))
        batch = {
            "a": self._side(split.a, index, index, self._transform_a, _VIEW_A, _AUGMENT_A),
            "b": self._side(split.b, chosen_b, index, self._transform_b, _VIEW_B, _AUGMENT_B),
            "index": row[where].astype(np.int32),
        }
        if split.c is not None:
            batch["c"] = self._side(split.c, index, index, self._transform_c, _VIEW_C, _AUGMENT_C)
        if split.cluster_size_b is not None:
            batch["stat"] = split.cluster_size_b[chosen_b]
        elif split.cluster_size is not None:
            batch["stat"] = split.cluster_size[index]
        if split.label is not None:
            batch["label"] = split.label[index]
        if split.id_a is not None:
            batch["id_a"] = split.id_a[index]
        if split.id_b is not None:
            batch["id_b"] = split.id_b[chosen_b]
        for side, has in split.present.items():
            batch[f"has_{side}"] = has[index]
        batch = {name: _padded(value, where) for name, value in batch.items()}
        batch["index"] = row.astype(np.int32)
        return {**batch, "where": where}

    def _uniform(self, index: np.ndarray, stream: int) -> np.ndarray | None:
        return None if self._choice == "first" else sample_uniform(self._seed, self._epoch, index, stream)

    def _side(
        self,
        column: Column,
        items: np.ndarray,
        index: np.ndarray,
        transform: Transform | None,
        view_stream: int,
        augment_stream: int,
    ) -> np.ndarray:
        counts = column.view_counts(items) if isinstance(column, ArrayColumn | FrameColumn) else np.ones(1, int)
        uniform = self._uniform(index, view_stream) if (counts > 1).any() else None
        if uniform is not None and isinstance(column, ArrayColumn | FrameColumn):
            values: Any = column.read(items, (uniform * counts).astype(np.int64))
        else:
            values = column.read(items)
        generators = (sample_generator(self._seed, self._epoch, int(i), augment_stream) for i in index)
        return _stack(column, values, transform, generators)


def iterate_items(
    column: Column,
    transform: Transform | None,
    batch_size: int,
    *,
    threads: int = 2,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Iterates over the items of a column in order, in padded batches, for evaluation.

    Args:
      column: N items.
      transform: applied to each item with a fixed generator.
      batch_size: rows of every batch; one shape means one compilation.
      threads: host threads, used if there is a transform.
      part: (k, n) for the batches of part k of n: the batches are divided in order, the first parts get more.

    Yields:
      `(items [batch_size, ...], where bool [batch_size])`; the last batch is padded with zeros.

    >>> items = iterate_items(ArrayColumn(np.ones((3, 2))), None, 2)
    >>> [where.tolist() for _, where in items]
    [[True, True], [True, False]]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    number, parts = part
    rows = np.array_split(padded_rows(np.arange(len(column)), batch_size), parts)[number]

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        where = rows[step] >= 0
        index = rows[step][where]
        generators = (sample_generator(0, 0, int(i), 0) for i in index)
        return _padded(_stack(column, column.read(index), transform, generators), where), where

    if transform is None:
        return (batch(step) for step in range(len(rows)))
    grain = require("grain", extra="train", purpose="read images on several threads")
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    return iter(grain.MapDataset.source(range(len(rows))).map(batch).to_iter_dataset(options))


def sample_generator(seed: int, epoch: int, index: int, stream: int = 0) -> np.random.Generator:
    """The random generator of a sample: Philox with its counter at (epoch, index), so streams do not overlap."""
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, index, epoch], np.uint64)))


def sample_uniform(seed: int, epoch: int, index: np.ndarray, stream: int = 0) -> np.ndarray:
    """One number in [0, 1) for each sample, from a hash of (seed, epoch, index, stream); float64 [n].

    Applies the finaliser of splitmix64 (Steele, Lea, Flood 2014) to the four numbers in turn. It is vectorised: one
    generator per sample would cost more than reading an embedding.
    """
    mixed = np.zeros(len(index), np.uint64)
    for number in (seed % 2**64, stream, epoch, index):
        mixed = mixed ^ np.asarray(number).astype(np.uint64)
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _stack(
    column: Column, values: Any, transform: Transform | None, generators: Iterator[np.random.Generator]
) -> np.ndarray:
    if transform is not None:
        if not len(values):  # a batch of only padding needs the item shape
            like = transform(column.read(np.zeros(1, np.int64))[0], sample_generator(0, 0, 0))
            return np.zeros((0, *like.shape), like.dtype)
        return np.stack([transform(value, rng) for value, rng in zip(values, generators, strict=True)])
    if not isinstance(values, np.ndarray):
        raise ConfigError(
            f"a column of kind {column.kind!r} needs a transform to arrays"
            + (" (encode_texts makes token ids of texts)" if column.kind == "text" else "")
        )
    return values


def _padded(value: np.ndarray, where: np.ndarray) -> np.ndarray:
    if where.all():
        return value
    out = np.zeros((len(where), *value.shape[1:]), value.dtype)
    out[where] = value
    return out
