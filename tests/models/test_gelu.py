"""The exact GELU: its values, and under shard_map on every version of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import special

from alignment_jax.models.gelu import gelu, rational_gelu


@pytest.mark.parametrize("function", [gelu, rational_gelu])
def test_values_and_derivatives_are_those_of_the_normal_distribution(function):
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    wide = x.astype(np.float64)
    phi = special.ndtr(wide)
    # 1 + erf has an absolute error of a few units of 1; the product with x scales it.
    bound = 8 * np.finfo(np.float32).eps * (1 + np.abs(wide))
    assert (np.abs(jax.jit(function)(x) - wide * phi) < bound).all()
    derivative = phi + wide * np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi)
    found = jax.jit(jax.vmap(jax.grad(function)))(x)
    assert (np.abs(found - derivative) < bound).all()


def test_a_sharded_array_gives_the_same():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))
    x = jnp.linspace(-4, 4, 16)
    part = PartitionSpec("batch")

    def both(x):
        return gelu(x), jax.grad(lambda y: gelu(y).sum())(x)

    sharded = jax.shard_map(both, mesh=mesh, in_specs=part, out_specs=part)
    for found, wanted in zip(jax.jit(sharded)(x), both(x), strict=True):
        np.testing.assert_allclose(found, wanted, atol=4e-6)
