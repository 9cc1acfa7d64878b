"""Products of embeddings, summed in float32: exact, of three bfloat16 products, or of one.

A factor of 24 bits is a sum of three factors of 8 bits; a bfloat16 number holds 8. Keeping the two largest parts of
each factor and three of their four products has an error of at most 3·2^-16 of |x| |y|; one part alone has 2^-7.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import Array

PrecisionName = Literal["float32", "bfloat16_3x", "bfloat16"]
_PRESETS = {
    "bfloat16_3x": jax.lax.DotAlgorithmPreset.BF16_BF16_F32_X3,
    "bfloat16": jax.lax.DotAlgorithmPreset.BF16_BF16_F32,
}


def _dot_precision(precision: str) -> Any:
    """The `precision` of a dot product on the default backend, an accelerator."""
    if precision == "bfloat16_3x" and jax.default_backend() == "tpu":
        # The same three products. Of this preset the compiler (libtpu 0.0.42.1) keeps one in a gradient of the loss.
        return jax.lax.Precision.HIGH
    return _PRESETS[precision]


def check_precision(precision: str) -> None:
    """Raises ConfigError for a name that is none of `PrecisionName`."""
    if precision not in get_args(PrecisionName):
        raise ConfigError(f"precision must be one of {', '.join(get_args(PrecisionName))}, got {precision!r}")


def operand(x: Array, precision: str) -> jax.Array:
    """The embeddings as they are kept and sent between devices: half as wide for "bfloat16".

    >>> operand(jnp.ones((2, 3)), "bfloat16").dtype, operand(jnp.ones((2, 3)), "bfloat16_3x").dtype
    (dtype(bfloat16), dtype('float32'))
    """
    x = jnp.asarray(x)
    return x.astype(jnp.bfloat16) if precision == "bfloat16" and x.dtype == jnp.float32 else x


def matmul(x: Array, y: Array, precision: str = "float32") -> jax.Array:
    """x yᵀ in float32.

    Args:
      x, y: [n, d], [m, d]. Half-width inputs are multiplied in their own type, whatever the precision.
      precision: of float32 inputs, a `PrecisionName`. At a temperature of 0.01 the bfloat16 or TF32 passes that
        accelerators use by default cause errors of a tenth in the logits.

    >>> x = jnp.array([[1.0, 2.0**-10]])
    >>> [float(matmul(x, x, name)[0, 0]) - 1 for name in ("float32", "bfloat16_3x")]
    [9.5...e-07, 9.5...e-07]
    """
    return _einsum("id,jd->ij", jnp.asarray(x), jnp.asarray(y), precision)


def weighted_einsum(product: str, first: jax.Array, second: jax.Array, precision: str = "float32") -> jax.Array:
    """An einsum of float32 weights and embeddings, in either order; float32."""
    if jnp.bfloat16 in (first.dtype, second.dtype):
        # The range of bfloat16 is that of float32, so small weights survive; in float16 they would vanish.
        first, second = first.astype(jnp.bfloat16), second.astype(jnp.bfloat16)
    return _einsum(product, first, second, precision)


def _einsum(product: str, first: jax.Array, second: jax.Array, precision: str) -> jax.Array:
    if not first.dtype == second.dtype == jnp.float32:
        return _sum(product, first, second)
    if precision == "float32":
        return _sum(product, first, second, jax.lax.Precision.HIGHEST)
    return _narrow(product, first, second, precision)


def _sum(product: str, first: jax.Array, second: jax.Array, precision=None) -> jax.Array:
    return jnp.einsum(product, first, second, precision=precision, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _narrow(product: str, first: jax.Array, second: jax.Array, precision: str) -> jax.Array:
    if jax.default_backend() != "cpu":
        return _sum(product, first, second, _dot_precision(precision))
    # A CPU has no such products. The same ones are computed from parts, so that tests see their rounding.
    (high, low), (other_high, other_low) = _parts(first), _parts(second)
    total = _sum(product, high, other_high)
    if precision == "bfloat16_3x":
        total += _sum(product, high, other_low) + _sum(product, low, other_high)
    return total


@_narrow.defjvp
def _narrow_jvp(product: str, precision: str, primals, tangents):
    # Not the derivative of the rounding: that would round gradients to bfloat16 numbers.
    (first, second), (d_first, d_second) = primals, tangents
    inner = jax.lax.Precision.HIGHEST if jax.default_backend() == "cpu" else _dot_precision(precision)
    tangent = _sum(product, d_first, second, inner) + _sum(product, first, d_second, inner)
    return _narrow(product, first, second, precision), tangent


def _parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """bfloat16 (high, low) with high + low close to x."""
    # `astype` there and back may be removed by the compiler as needless; this rounding may not.
    high = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
    return high.astype(jnp.bfloat16), (x - high).astype(jnp.bfloat16)
