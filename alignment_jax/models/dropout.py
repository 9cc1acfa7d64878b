"""Dropout whose masks do not depend on the number of devices."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.core.random_numbers import bernoulli


def row_dropout(key: Array, x: Array, *, rate: float, rows: Array | None = None) -> jax.Array:
    """Zeroes entries of `x` with probability `rate` and divides the others by 1 - rate, with one key per row.

    mask_i = bernoulli(fold_in(key, rows_i), 1 - rate). The mask depends on the position of the row in the global batch,
    not on its device, so a run on 2, 4 or 8 devices equals the run on one.

    Args:
      key: one PRNG key, the same on every device.
      x: [n, ...] floating.
      rate: share of entries to drop, in [0, 1).
      rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.

    Returns:
      [n, ...] in the dtype of `x`.

    Raises:
      ValueError: rate outside [0, 1).

    >>> key, x = jax.random.key(0), jnp.ones((4, 3))
    >>> whole = row_dropout(key, x, rate=0.5)
    >>> second_half = row_dropout(key, x[2:], rate=0.5, rows=jnp.array([2, 3]))
    >>> bool(jnp.all(whole[2:] == second_half))
    True
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    x = jnp.asarray(x)
    if rate == 0.0:
        return x
    kept = _kept(key, x, rate, rows, x.shape[1:])
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def stochastic_depth(key: Array, x: Array, *, rate: Array | float, rows: Array | None = None) -> jax.Array:
    """Zeroes whole rows of a residual branch with probability `rate` and divides the others by 1 - rate.

    As in `row_dropout`, the mask depends on a row's position in the global batch, not on its device.

    Source: Huang et al. 2016, Deep networks with stochastic depth. They multiply by 1 - rate in evaluation; we divide
    in training, as dropout does.

    Args:
      key: one PRNG key, the same on every device.
      x: [n, ...] floating.
      rate: scalar in [0, 1).
      rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.

    Returns:
      [n, ...] in the dtype of `x`.

    >>> sorted({float(row[0]) for row in stochastic_depth(jax.random.key(0), jnp.ones((9, 2)), rate=0.5)})
    [0.0, 2.0]
    """
    x = jnp.asarray(x)
    factor = (_kept(key, x, rate, rows, ()) / (1.0 - rate)).astype(x.dtype)
    return x * factor.reshape(-1, *[1] * (x.ndim - 1))


def _kept(key: Array, x: jax.Array, rate: Array | float, rows: Array | None, shape: tuple[int, ...]) -> jax.Array:
    """[n, *shape] bool, with one key per row."""
    rows = jnp.arange(x.shape[0]) if rows is None else rows
    return jax.vmap(lambda row: bernoulli(jax.random.fold_in(key, row), 1.0 - rate, shape))(rows)


class Dropout(nn.Module):
    """`row_dropout` as a layer: uses the "dropout" stream of keys; the identity unless `train`."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, rows: Array | None) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        return row_dropout(self.make_rng("dropout"), x, rate=self.rate, rows=rows)
