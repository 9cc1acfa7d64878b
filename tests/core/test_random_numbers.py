"""Random numbers are those of `jax.random`, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.core.random_numbers import bernoulli, normal, random_bits, uniform

OWN_AND_JAX = [
    (random_bits, jax.random.bits),
    (lambda key, shape: bernoulli(key, 0.7, shape), lambda key, shape: jax.random.bernoulli(key, 0.7, shape)),
    (normal, jax.random.normal),
    (uniform, jax.random.uniform),
]


@pytest.mark.parametrize(("own", "library"), OWN_AND_JAX)
@pytest.mark.parametrize("shape", [(), (7,), (33, 500)])
@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.fold_in(jax.random.key(5), 3), jax.random.PRNGKey(1)])
def test_equal_to_jax(own, library, shape, key):
    np.testing.assert_array_equal(own(key, shape), library(key, shape))


@pytest.mark.parametrize(("own", "library"), OWN_AND_JAX)
def test_one_key_a_row(own, library):
    keys = jax.random.split(jax.random.key(2), 5)
    rows = [jax.vmap(lambda key, of=of: of(key, (9,)))(keys) for of in (own, library)]
    np.testing.assert_array_equal(*rows)


def test_other_generators_and_settings_are_left_to_jax():
    key = jax.random.key(0, impl="rbg")
    np.testing.assert_array_equal(random_bits(key, (8,)), jax.random.bits(key, (8,)))
    half = normal(jax.random.key(0), (8,), jnp.bfloat16)
    np.testing.assert_array_equal(half, jax.random.normal(jax.random.key(0), (8,), jnp.bfloat16))
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(random_bits(jax.random.key(0), (8,)), jax.random.bits(jax.random.key(0), (8,)))
