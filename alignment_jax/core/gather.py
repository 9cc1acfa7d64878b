"""The rows of all devices on every device."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import psum_if
from alignment_jax.core.types import Array


def all_rows(x: Array, axis_name: str | None) -> jax.Array:
    """The rows of all devices [devices * n, ...], in the order of the devices; `x` itself without an axis.

    A sum of arrays that are zero outside a device's rows. An all-gather would do the same, but `check_vma` does not
    accept its result as replicated.

    >>> all_rows(jnp.arange(3), None).tolist()
    [0, 1, 2]
    """
    x = jnp.asarray(x)
    if axis_name is None:
        return x
    if x.dtype == jnp.bool_:
        return all_rows(x.astype(jnp.int32), axis_name) > 0
    places = jnp.zeros((jax.lax.axis_size(axis_name), *x.shape), x.dtype)
    return psum_if(places.at[jax.lax.axis_index(axis_name)].set(x), axis_name).reshape(-1, *x.shape[1:])
