"""Duplicates: candidates whose item equals one of the anchor's own pair.

Candidate j is a duplicate of anchor i where j ≠ i and an id of the pairs i and j is equal on either side. The test is
symmetric, so that one tile of it is valid for its rows and its columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

Mode = Literal["mask", "positive"]
MASK: Mode = "mask"
POSITIVE: Mode = "positive"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Duplicates:
    """The ids of this device's pairs and the treatment of duplicates.

    Args:
      ids: side -> integers [n], or [n, k] where k numbers together are one id.
      mode: MASK, duplicates are no candidates; POSITIVE, they share the target equally with the anchor's own partner.
    """

    ids: dict[str, jax.Array]
    mode: Mode = dataclasses.field(metadata={"static": True})


def mode_of(duplicates: Duplicates | None) -> Mode | None:
    """The treatment of duplicates; None where pairs have no ids."""
    return None if duplicates is None else duplicates.mode


def equal_in_one(rows: Mapping[str, jax.Array], columns: Mapping[str, jax.Array]) -> jax.Array:
    """[b, n] bool, true where an id of the row's pair equals that of the column's pair on the same side.

    >>> ids = {"id_a": jnp.array([0, 0, 1]), "id_b": jnp.array([5, 6, 6])}
    >>> equal_in_one(ids, ids).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    equal = None
    for side in ("id_a", "id_b"):
        if side not in rows:
            continue
        one = rows[side][:, None] == columns[side][None, :]
        one = jnp.all(one, axis=-1) if one.ndim == 3 else one
        equal = one if equal is None else equal | one
    assert equal is not None, "Duplicates without ids"
    return equal
