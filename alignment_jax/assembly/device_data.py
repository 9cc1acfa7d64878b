"""Keeps the training set on the device; batches then hold row numbers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.core.errors import ConfigError

CHOICES = ("auto", "on", "off")
Tables = dict[str, np.ndarray]


def device_tables(
    section: ConfigDict, split: data.PairSplit, unpaired: Mapping[str, data.ArrayColumn] | None = None
) -> tuple[Tables | None, data.PairSplit]:
    """The training split as tables for the device, and a split whose items are row numbers in them.

    Args:
      section: `input` of the configuration.
      split: the prepared training split.
      unpaired: latents without partners, which become tables too.

    Returns:
      (tables, split of row numbers), or (None, split) where every batch is sent to the device.

    Raises:
      ConfigError: input.resident is "on", and the split cannot stay on the device.
    """
    choice = section.resident
    if choice == "off":
        return None, split
    a, b, unpaired = split.a, split.b, unpaired or {}
    obstacle = ""
    if not (isinstance(a, data.ArrayColumn) and isinstance(b, data.ArrayColumn)):
        obstacle = "only arrays without augmentation, such as frozen latents, can stay on the device"
    elif choice == "auto" and not a.kind == b.kind == "embedding":
        # XLA runs a convolution several times slower inside a compiled loop on CPUs, and the calls between steps are
        # cheap beside one.
        obstacle = "not worth it"
    elif choice == "auto" and sum(map(_bytes, (a, b, *unpaired.values()))) > section.cache_mib << 20:
        obstacle = "too large"
    if obstacle:
        if choice == "on":
            raise ConfigError(f"input.resident is 'on', but {obstacle}; use 'auto' or 'off'")
        return None, split
    assert isinstance(a, data.ArrayColumn)
    assert isinstance(b, data.ArrayColumn)
    (table_a, numbers_a), (table_b, numbers_b) = _numbered(a), _numbered(b)
    further = {name: column.read(np.arange(len(column))) for name, column in unpaired.items()}
    tables = {name: _compilable(table) for name, table in {"a": table_a, "b": table_b}.items()}
    return {**tables, **further}, split.replace(a=numbers_a, b=numbers_b)


def _compilable(table: np.ndarray) -> np.ndarray:
    return table.astype(np.float32) if table.dtype == np.float16 and not compiles_float16() else table


@functools.cache
def compiles_float16() -> bool:
    """Whether the compiler converts float16. XLA does not on an x86 processor without F16C (older than 2012)."""
    try:
        jax.jit(lambda x: x.astype(jnp.float32)).lower(jax.ShapeDtypeStruct((1,), jnp.float16)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _bytes(column: data.ArrayColumn) -> int:
    return len(column) * column.num_views * column.array[:1].nbytes


def _numbered(column: data.ArrayColumn) -> tuple[np.ndarray, data.ArrayColumn]:
    """All items in all their views as one table, and a column that reads as their row numbers in it."""
    stored = (column.array, *column.views)
    # Memory-mapped arrays are read here.
    views = tuple(np.asarray(view) if column.rows is None else view[column.rows] for view in stored)
    table = np.concatenate(views) if len(views) > 1 else views[0]
    numbers = np.arange(len(table), dtype=np.int32).reshape(len(views), -1)
    return table, dataclasses.replace(column, array=numbers[0], rows=None, views=tuple(numbers[1:]))
