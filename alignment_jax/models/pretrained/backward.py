"""Parts of a layer whose backward pass keeps few arrays: by default JAX keeps every intermediate result it can use.

Of the activations of a fine-tuned tower that is a third; forward values are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core.varying import vary_over, varying_axes


def keep_slope(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """The same elementwise function; its backward pass keeps one array, the derivative.

    The exact GELU keeps three otherwise, and needs them all again to compute the derivative.

    >>> float(jax.grad(keep_slope(jnp.tanh))(0.0))
    1.0
    """
    kept = jax.custom_jvp(function)

    @kept.defjvp
    def derivative(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
        (x,), (tangent,) = primals, tangents
        y, slope = jax.jvp(function, (x,), (vary_over(varying_axes(x), jnp.ones_like(x)),))
        return y, slope * tangent

    return functools.wraps(function)(lambda x: kept(x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def standardize(x: jax.Array, epsilon: float) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) along the last axis; its backward pass keeps the result and the root.

    >>> standardize(jnp.array([1.0, 3.0]), 0.0).tolist()
    [-1.0, 1.0]
    """
    return _standardized(x, epsilon)[0]


@standardize.defjvp
def _standardize_jvp(
    epsilon: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    y, inverse = _standardized(x, epsilon)
    along = jnp.mean(y * tangent, axis=-1, keepdims=True)
    return y, inverse * (tangent - jnp.mean(tangent, axis=-1, keepdims=True) - y * along)


def _standardized(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    # E[x^2] - E[x]^2 cancels where the mean is large, as in the last layers of ViTs.
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centered), axis=-1, keepdims=True) + epsilon)
    return centered * inverse, inverse


class LayerNorm(nn.Module):
    """Layer norm (Ba et al. 2016) with parameters `scale` and `bias`, computed in float32."""

    epsilon: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., width] -> the same, in `dtype`."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), self.param_dtype)
        return (standardize(x.astype(jnp.float32), self.epsilon) * scale + bias).astype(self.dtype)
