"""Checks of the losses' arguments `ids_a`, `ids_b` and `duplicates`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.similarity.duplicates import Duplicates

DUPLICATES = ("mask", "positive", "negative")


def read_duplicates(
    ids_a: Array | None, ids_b: Array | None, duplicates: str, n: int, known: tuple[str, ...] = DUPLICATES
) -> Duplicates | None:
    """The ids of `n` pairs and the treatment of duplicates; None without ids, or where duplicates are negatives.

    Raises:
      ValueError: `duplicates` is not in `known`, or ids are not integers of shape [n] or [n, k].

    >>> read_duplicates(np.array([4, 7]), None, "mask", 2).mode
    'mask'
    """
    if duplicates not in known:
        refused = duplicates in DUPLICATES
        raise ValueError(
            f"duplicates must be one of {', '.join(known)}{' for this loss' if refused else ''}, got {duplicates!r}"
        )
    given = {"id_a": ids_a, "id_b": ids_b}
    ids = {side: _checked(f"ids{side[2:]}", one, n) for side, one in given.items() if one is not None}
    return Duplicates(ids, duplicates) if ids and duplicates != "negative" else None  # type: ignore[arg-type]


def _checked(name: str, ids: Array, n: int) -> jax.Array:
    ids = ids if isinstance(ids, jax.Array) else np.asarray(ids)
    if not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise ValueError(f"{name} must be integers, got {jnp.result_type(ids)}")
    if np.ndim(ids) not in (1, 2) or np.shape(ids)[0] != n:
        raise ValueError(f"{name} must have shape [{n}] or [{n}, k], got {np.shape(ids)}")
    narrow = jnp.asarray(ids)
    if isinstance(ids, np.ndarray) and narrow.dtype.itemsize < ids.dtype.itemsize and ids.size:
        # Ids that differ in the upper half alone would become equal.
        limits = jnp.iinfo(narrow.dtype)
        if ids.min() < limits.min or ids.max() > limits.max:
            raise ValueError(
                f"{name} must fit into {narrow.dtype}, got up to {ids.max()}; number them, or give two columns [{n}, 2]"
            )
    return narrow
