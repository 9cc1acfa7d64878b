"""Mean of per-sample losses over samples and directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.checks import check_where
from alignment_jax.core.masked_reductions import masked_mean
from alignment_jax.core.types import Array


def reduce(
    loss_ab: Array,
    loss_ba: Array | None = None,
    *,
    weights: tuple[Array | float, Array | float] = (1.0, 1.0),
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Mean over the samples that count, and over the two directions.

    ½ (w_ab · mean(loss_ab) + w_ba · mean(loss_ba)), or mean(loss_ab) when there is one direction only. Under
    `axis_name` it is the sum of all devices' losses over the sum of all devices' counts: on every device the value for
    the whole batch. Differentiate it directly and average the gradients of replicated parameters over the axis
    (`jax.lax.pmean`); that is exact under `shard_map` with `check_vma` on or off and under `pmap`.

    Args:
      loss_ab: [n] losses, direction ab.
      loss_ba: [n] losses, direction ba, or None.
      weights: (w_ab, w_ba), scalars; a fixed baseline is (1, 1). Not used with one direction.
      where: [n] bool, rows that count, or None for all.
      axis_name: mesh axis that the rows are sharded over, or None.

    Returns:
      float32 scalar; 0 when no row counts.

    Raises:
      ValueError: shapes do not match, or a weight is not a scalar.

    >>> float(reduce(jnp.array([1.0, 3.0]), jnp.array([5.0, 7.0]), weights=(1.5, 0.5)))
    3.0
    """
    loss_ab = jnp.asarray(loss_ab, jnp.float32)
    if loss_ab.ndim != 1:
        raise ValueError(f"loss_ab must have shape [n], got {loss_ab.shape}")
    check_where(where, loss_ab.shape[0])
    mean_ab = masked_mean(loss_ab, where, axis_name=axis_name)
    if loss_ba is None:
        return mean_ab
    if jnp.shape(loss_ba) != loss_ab.shape:
        raise ValueError(f"loss_ba must have the shape of loss_ab {loss_ab.shape}, got {jnp.shape(loss_ba)}")
    mean_ba = masked_mean(jnp.asarray(loss_ba, jnp.float32), where, axis_name=axis_name)
    w_ab, w_ba = weights
    if jnp.shape(w_ab) or jnp.shape(w_ba):
        # The result would be a vector, and the error of jax.grad would not name its origin.
        raise ValueError(f"weights must be two scalars, got shapes {jnp.shape(w_ab)} and {jnp.shape(w_ba)}")
    return jnp.asarray(0.5 * (w_ab * mean_ab + w_ba * mean_ba))
