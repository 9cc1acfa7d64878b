"""The exact GELU, on every supported version of JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.core.varying import varying_axes

# The first version whose `erf` is a polynomial; 0.12.0.1 does not cast the coefficients to varying.
_POLYNOMIAL_ERF = (0, 12)
# erf(x) = x P(x²) / Q(x²) for |x| < 3.83, highest power first: the minimax coefficients of XLA and Eigen for float32.
_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def gelu(x: Array) -> jax.Array:
    """x Φ(x), Φ the normal distribution function, as `jax.nn.gelu(x, approximate=False)`.

    `erf` of jax 0.12 raises under `shard_map(check_vma=True)`. There a rational approximation takes its place, in
    float32, with an error below 1e-6.

    Args:
      x: floating point, any shape.

    Returns:
      The same shape and dtype.

    >>> [f"{y:.4f}" for y in gelu(jnp.array([0.0, 1.0]))]
    ['0.0000', '0.8413']
    """
    x = jnp.asarray(x)
    if jax.__version_info__[:2] < _POLYNOMIAL_ERF or not varying_axes(x):
        return jax.nn.gelu(x, approximate=False)
    return rational_gelu(x)


def rational_gelu(x: jax.Array) -> jax.Array:
    """`gelu` without `erf`."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + _erf(wide * 0.5**0.5))).astype(x.dtype)


@jax.custom_jvp
def _erf(x: jax.Array) -> jax.Array:
    x = jnp.clip(x, -3.832506856900711, 3.832506856900711)
    return x * jnp.polyval(jnp.array(_P), x * x) / jnp.polyval(jnp.array(_Q), x * x)


@_erf.defjvp
def _erf_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return _erf(x), 2 / jnp.pi**0.5 * jnp.exp(-x * x) * tangent
