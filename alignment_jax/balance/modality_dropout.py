"""Modality dropout: in training whole modalities of a sample are hidden at random."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import BalanceMethod
from alignment_jax.core import Array
from alignment_jax.core.checks import check_number
from alignment_jax.core.random_numbers import uniform


def drop_modalities(key: jax.Array, rows: Array, present: Mapping[str, Array], *, rate: float) -> dict[str, jax.Array]:
    """The modalities that remain: each is dropped with probability `rate`, and a sample keeps at least one.

    Where all of a sample's modalities are drawn, one of them, with equal chances, remains.

    Args:
      key: a random key; the same on every device.
      rows: [n] int, positions in the global batch: the draw of a row depends on the key and its position alone.
      present: modality -> bool [n], samples that have it.
      rate: in [0, 1); 0 drops nothing.

    Returns:
      modality -> bool [n], never true where `present` is false.

    >>> has = {"a": jnp.array([True, True]), "b": jnp.array([True, False])}
    >>> kept = drop_modalities(jax.random.key(0), jnp.arange(2), has, rate=0.9)
    >>> bool(kept["a"][1]), bool(kept["b"][1])  # the only modality of the second sample
    (True, False)

    Source: ModDrop (Neverova et al., TPAMI 2016), section 3.4: independent draws for modalities; that one remains is
    our addition.
    """
    check_number("rate", rate, lambda x: 0 <= x < 1, "in [0, 1)")
    names = sorted(present)
    has = jnp.stack([jnp.asarray(present[m], bool) for m in names], axis=1)
    draw = jax.vmap(lambda row: uniform(jax.random.fold_in(key, row), (len(names),)))(jnp.asarray(rows))
    draw = jnp.where(has, draw, -1.0)
    kept = has & ((draw >= rate) | (jnp.max(draw, axis=1, keepdims=True) == draw))
    return {m: kept[:, k] for k, m in enumerate(names)}


def modality_dropout(*, rate: float = 0.3) -> BalanceMethod:
    """Modality dropout as a `BalanceMethod`.

    Args:
      rate: in [0, 1).

    >>> modality_dropout(rate=0.5).keep is not None
    True
    """
    check_number("rate", rate, lambda x: 0 <= x < 1, "in [0, 1)")
    return BalanceMethod(keep=lambda key, rows, present: drop_modalities(key, rows, present, rate=rate))
