"""Latents without partners: which array a side takes, and the rows of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import UNPAIRED_KEYS, Batch
from alignment_jax.train import processes

Pools = dict[str, data.ArrayColumn]
Batches = Callable[[np.ndarray, int, int], Iterator[Batch]]


def unpaired_pools(
    section: ConfigDict, source: data.PairSource, train: data.PairSplit
) -> tuple[Pools, tuple[str, ...]]:
    """The unpaired latents of both sides, by the names of a batch, and a note where a side uses those of train.

    Args:
      section: `transport` of the configuration.
      source: the data set.
      train: the prepared training split.

    Returns:
      ({}, ()) where transport.weight is 0.

    Raises:
      ConfigError: the data holds no latents.
    """
    if section.weight == 0:
        return {}, ()
    pools: Pools = {}
    missing = []
    for key, side, name, column in zip(UNPAIRED_KEYS, "ab", source.modalities, (train.a, train.b), strict=False):
        if not isinstance(column, data.ArrayColumn) or column.kind != "embedding":
            raise ConfigError(f"transport.weight reads frozen latents, but side {side} ({name}) is not encoded")
        if side not in source.unpaired:
            missing.append(f"{key} ({name})")
        pools[key] = source.unpaired.get(side, column)
    if not missing:
        return pools, ()
    each = "their" if len(missing) > 1 else "its"
    return pools, (
        f"transport: the data has no {' and no '.join(missing)}; the training latents take {each} place. More latents "
        "without partners are what this method is made for",
    )


def with_unpaired(
    batches: Batches, pools: Pools, *, size: int, seed: int, devices: Sequence[jax.Device], on_device: bool
) -> Batches:
    """The same batches, with unpaired latents that depend on the seed, the epoch and the number of the step alone.

    A step draws without replacement where the smaller side has enough rows.

    Args:
      batches: `Experiment.batches`.
      pools: from `unpaired_pools`; empty for none.
      size: latents of each side in a step; raised to a multiple of the devices.
      devices: of the run; a process reads the rows of its own.
      on_device: batches hold row numbers.
    """
    if not pools:
        return batches
    size = -(-size // len(devices)) * len(devices)
    local = processes.local_columns(devices, size)

    def drawn(epoch: int, step: int) -> Mapping[str, np.ndarray]:
        rng = np.random.default_rng((seed, epoch, step))
        found = {}
        for key, pool in pools.items():
            rows = rng.choice(len(pool), size, replace=len(pool) < size).astype(np.int32)[local]
            found[key] = rows if on_device else np.asarray(pool.read(rows), np.float32)
        return found

    def with_draws(rows: np.ndarray, epoch: int, first: int) -> Iterator[Batch]:
        for step, batch in enumerate(batches(rows, epoch, first), start=first):
            yield {**batch, **drawn(epoch, step)}

    return with_draws
