"""Arguments of the losses: checked, cast, and zero where masked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_pair, check_scalar_or_rows
from alignment_jax.core.masked_reductions import masked_count
from alignment_jax.core.types import Array
from alignment_jax.core.varying import vary_together
from alignment_jax.losses.item_ids import DUPLICATES, read_duplicates
from alignment_jax.similarity.duplicates import Duplicates


def checked_arguments(
    za: Array,
    zb: Array,
    where: Array | None,
    axis_name: str | None,
    ids: tuple[Array | None, Array | None, str] = (None, None, "negative"),
    known: tuple[str, ...] = DUPLICATES,
    **scalars: Array | float,
) -> tuple[jax.Array, jax.Array, jax.Array | None, Duplicates | None, dict[str, jax.Array]]:
    """Checked and cast (za, zb, where, duplicates, scalars) of a loss's arguments.

    `ids` and `known`: see `read_duplicates`. Masked embeddings become zero, masked values of a per-row scalar one: a
    NaN in a masked row then reaches neither a value nor a gradient.
    """
    za, zb = jnp.asarray(za), jnp.asarray(zb)
    check_pair(za, zb, where)
    values = {}
    for name, value in scalars.items():
        check_scalar_or_rows(name, value, za.shape[0])
        values[name] = jnp.asarray(value, jnp.float32)
    dtype = jnp.promote_types(za.dtype, zb.dtype)
    # Half-width inputs are multiplied in their own type, with float32 sums; wider inputs become float32.
    dtype = dtype if dtype in (jnp.bfloat16, jnp.float16) else jnp.dtype(jnp.float32)
    za, zb = za.astype(dtype), zb.astype(dtype)
    if where is not None:
        where = jnp.asarray(where)
    duplicates = read_duplicates(*ids, za.shape[0], known)
    za, zb, where, duplicates, values = vary_together((za, zb, where, duplicates, values), axis_name)
    if where is not None:
        za = jnp.where(where[:, None], za, 0)
        zb = jnp.where(where[:, None], zb, 0)
        values = {name: jnp.where(where, value, 1.0) if value.ndim else value for name, value in values.items()}
    return za, zb, where, duplicates, values


def global_count(za: jax.Array, where: jax.Array | None, axis_name: str | None) -> jax.Array:
    """Unmasked rows of the whole batch, as a float32 scalar."""
    return masked_count(za, where, axis_name=axis_name)


def zero_masked(loss: jax.Array, where: jax.Array | None) -> jax.Array:
    """Zero for masked rows."""
    return loss if where is None else jnp.where(where, loss, 0.0)
