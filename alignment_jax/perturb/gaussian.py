"""Random perturbation: Gaussian noise on latents or pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, masked_count, masked_sum
from alignment_jax.core.checks import check_number, check_where
from alignment_jax.core.random_numbers import normal
from alignment_jax.perturb.keys import is_per_row


def gaussian(
    key: jax.Array,
    z: Array,
    *,
    sigma: Array | float,
    relative: bool = False,
    scale: Array | float | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Adds independent Gaussian noise to every number.

    z + sigma s eps, eps ~ N(0, I); s = 1, or the standard deviation of the latents when `relative`.

    The standard deviation is one number, taken over all rows and features of the batch (over the whole batch under
    `axis_name`): noise has the same size in every feature, as in the paper, and only the unit changes. It is a constant
    for differentiation. Noise is drawn and added in float32; the sum has the dtype of `z`.

    Args:
      key: one key for the whole array, or one key per row ([n] typed or [n, k] raw, see `row_keys`). With keys per row
        the noise is the same for any number of devices. Give each modality its own key.
      z: [n, ...] floating point; mixed latents, before the adapters.
      sigma: standard deviation of the noise, >= 0: in the unit of `z`, or as a fraction of the latents' standard
        deviation when `relative`. May be traced, as from a schedule. 0 returns z unchanged.
      relative: whether `sigma` is a fraction.
      scale: the standard deviation when `relative`, for example of the whole data set; a scalar or an array that
        broadcasts against `z`, such as one per feature. None measures it on the batch.
      where: [n] bool, rows that count for the measured standard deviation; every row gets noise.
      axis_name: mesh axis over which `z` is sharded; the measured standard deviation is then that of the whole batch.
        It does not make noise differ between devices: row keys do.

    Returns:
      [n, ...], the dtype of `z`.

    Raises:
      ValueError: z is not floating point, the number of keys is not n, `scale` without `relative`, a negative sigma,
        or a sigma, `scale` or `where` of a shape that does not fit.

    Source: Liu et al., Modest-Align (arXiv 2510.21606), random perturbation with sigma = 0.01. `relative` is an
    addition: encoders differ in the scale of their latents by orders of magnitude.

    >>> z = jnp.array([[1.0, -1.0], [3.0, -3.0]])
    >>> gaussian(jax.random.key(0), z, sigma=0.0).tolist()
    [[1.0, -1.0], [3.0, -3.0]]
    >>> gaussian(jax.random.key(0), z, sigma=0.01, relative=True).shape
    (2, 2)
    """
    z = jnp.asarray(z)
    if z.ndim < 1 or not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"z must be floating point of shape [n, ...], got {z.dtype} of shape {z.shape}")
    check_number("sigma", sigma, lambda s: s >= 0, "at least 0")
    if scale is not None and not relative:
        raise ValueError("scale is only used with relative=True")
    check_where(where, z.shape[0])
    dtype = jnp.promote_types(z.dtype, jnp.float32)
    if is_per_row(key):
        if key.shape[0] != z.shape[0]:
            raise ValueError(f"key must hold one key per row of z, got {key.shape[0]} keys for {z.shape[0]} rows")
        noise = jax.vmap(lambda row_key: normal(row_key, z.shape[1:], dtype))(key)
    else:
        noise = normal(key, z.shape, dtype)
    amount = jnp.asarray(sigma, dtype)
    _check_broadcasts("sigma", amount, z)
    if relative:
        measured = _standard_deviation(z, where, axis_name) if scale is None else jnp.asarray(scale)
        _check_broadcasts("scale", measured, z)
        amount = amount * jax.lax.stop_gradient(measured.astype(dtype))
    return (z.astype(dtype) + amount * noise).astype(z.dtype)


def _check_broadcasts(name: str, value: jax.Array, z: jax.Array) -> None:
    """Raises ValueError unless value broadcasts against z without changing its shape."""
    try:
        fits = jnp.broadcast_shapes(value.shape, z.shape) == z.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must be a scalar or broadcast to the shape of z {z.shape}, got shape {value.shape}")


def _standard_deviation(z: jax.Array, where: Array | None, axis_name: str | None) -> jax.Array:
    """Of all numbers in the rows that count, over the axis; 0 when no row counts."""
    z = jax.lax.stop_gradient(z).astype(jnp.float32).reshape(z.shape[0], -1)
    numbers = jnp.maximum(masked_count(z, where, axis_name=axis_name) * z.shape[1], 1.0)
    mean = jnp.sum(masked_sum(z, where, axis_name=axis_name)) / numbers
    # Around the mean, in a second pass: the difference of two moments loses every digit when the mean is large.
    return jnp.sqrt(jnp.sum(masked_sum(jnp.square(z - mean), where, axis_name=axis_name)) / numbers)
