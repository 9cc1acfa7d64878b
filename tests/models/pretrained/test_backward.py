"""The backward pass of a layer: the gradients of the plain functions, from few arrays."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.models.gelu import gelu
from alignment_jax.models.pretrained.backward import LayerNorm
from alignment_jax.models.pretrained.transformer import ACTIVATIONS, Attention, Numerics

UNIT = 2.0**-24
PLAIN = {
    "gelu": gelu,
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
}


def kept(function, *args):
    """Shapes of what the backward pass of a function keeps."""
    return [leaf.shape for leaf in jax.tree.leaves(jax.vjp(function, *args)[1])]


@pytest.mark.parametrize("name", PLAIN)
def test_an_activation_keeps_its_slope_alone(name):
    x = jnp.linspace(-6.0, 6.0, 97)
    one, other = (jax.vmap(jax.value_and_grad(f))(x) for f in (ACTIVATIONS[name], PLAIN[name]))
    np.testing.assert_array_equal(one[0], other[0])
    # Sums of a few products, each at most 6.
    np.testing.assert_allclose(one[1], other[1], atol=6 * 8 * UNIT)
    assert kept(ACTIVATIONS[name], x).count(x.shape) == 1 < kept(PLAIN[name], x).count(x.shape)


def test_layer_norm_is_that_of_flax_with_one_kept_array():
    x = 100.0 + jax.random.normal(jax.random.key(0), (5, 32))
    weights = jax.random.normal(jax.random.key(1), x.shape)
    scale, bias = 1.0 + 0.1 * weights[0], weights[1]
    found = []
    for module in (LayerNorm(1e-6), nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)):

        def loss(x, scale, bias, module=module):
            return jnp.vdot(weights, module.apply({"params": {"scale": scale, "bias": bias}}, x))

        found.append((loss(x, scale, bias), jax.grad(loss, argnums=(0, 1, 2))(x, scale, bias)))
        found[-1] += (kept(lambda x, loss=loss: loss(x, scale, bias), x).count(x.shape),)
    (value, gradients, arrays), (expected, expected_gradients, _) = found
    # x - mean has an error of units of x = 100; sums of 32 numbers of a few units.
    bound = 100 * 32 * 4 * UNIT
    np.testing.assert_allclose(value, expected, atol=5 * bound)
    for one, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=bound)
    assert arrays <= 2  # the result, and the weights of this test


def test_attention_keeps_no_scores():
    x = jax.random.normal(jax.random.key(0), (2, 7, 8))
    module = Attention(2, Numerics())
    variables = module.init(jax.random.key(1), x)
    assert not [shape for shape in kept(lambda x: module.apply(variables, x), x) if shape[-2:] == (7, 7)]
