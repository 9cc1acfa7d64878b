"""Properties that hold for any batch. Shapes come from a small fixed set, so that compilations are shared."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alignment_jax as aj

pytestmark = pytest.mark.costly

SIZES, DIM = (1, 2, 7, 513), 8
settings = hypothesis.settings(max_examples=20)
few = hypothesis.settings(settings, max_examples=8)
seeds = st.integers(0, 2**16)


def unit_vectors(seed, n):
    z = np.random.default_rng(seed).normal(size=(2, n, DIM))
    return (z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(np.float32)


@functools.cache
def compiled(name, similarity="dense"):
    """(za, zb, settings) -> losses and gradients of their mean."""
    function = getattr(aj.losses, name)

    def total(za, zb, settings):
        losses = function(za, zb, similarity=similarity, **settings)
        parts = losses if isinstance(losses, tuple) else (losses,)
        return aj.losses.reduce(*parts), parts

    return jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))


def evaluate(name, za, zb, **values):
    gradients, parts = compiled(name)(za, zb, {key: jnp.float32(value) for key, value in values.items()})
    return parts, gradients


def finite(tree):
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(tree))


# Norms over all of the range and its ends, rows of different norm in one batch, pairs that agree, that disagree and
# that have nothing to do with each other.
batches = st.fixed_dictionaries(
    {
        "seed": seeds,
        "n": st.sampled_from(SIZES),
        "norm": st.one_of(st.sampled_from([0.0, 1.0, 1e4]), st.floats(-30, 4).map(lambda e: 10.0**e)),
        "some_zero": st.booleans(),
        "pairing": st.sampled_from([-1.0, 0.0, 1.0]),
        "dtype": st.sampled_from([jnp.float32, jnp.bfloat16]),
    }
)


def batch(seed, n, norm, some_zero, pairing, dtype):
    za, other = unit_vectors(seed, n)
    zb = pairing * za if pairing else other
    if some_zero:
        za = np.where(np.arange(n)[:, None] % 3 == 0, 0, za)
    return tuple(jnp.asarray(np.float32(norm) * z, dtype) for z in (za, zb))


temperatures = st.one_of(st.sampled_from([0.001, 10.0]), st.floats(-3, 1).map(lambda e: 10.0**e))


@pytest.mark.slow
@settings
@hypothesis.given(batches, temperatures, st.sampled_from([0.0, 0.1, 0.99]))
def test_infonce_is_finite(parameters, temperature, smoothing):
    found = evaluate("infonce", *batch(**parameters), temperature=temperature, smoothing=smoothing)
    assert finite(found)
    if smoothing == 0.0:
        assert all((np.asarray(part) >= 0).all() for part in found[0])


@pytest.mark.slow
@settings
@hypothesis.given(batches, st.floats(-10, 10, width=32))
def test_max_margin_is_finite(parameters, margin):
    parts, gradients = evaluate("max_margin", *batch(**parameters), margin=margin)
    assert finite((parts, gradients))
    assert all((np.asarray(part) >= 0).all() for part in parts)


@pytest.mark.slow
@settings
@hypothesis.given(batches, temperatures, st.floats(-100, 100, width=32))
def test_sigmoid_is_finite(parameters, temperature, bias):
    parts, gradients = evaluate("sigmoid", *batch(**parameters), scale=1 / temperature, bias=bias)
    assert finite((parts, gradients))
    assert all((np.asarray(part) >= 0).all() for part in parts)


@pytest.mark.slow
@few
@hypothesis.given(seeds, st.sampled_from(SIZES), temperatures)
def test_smoothing_of_zero_is_one_hot(seed, n, temperature):
    """As a number, which leaves the term out, and as a traced zero, which computes it."""
    za, zb = unit_vectors(seed, n)
    one_hot = evaluate("infonce", za, zb, temperature=temperature)
    traced = evaluate("infonce", za, zb, temperature=temperature, smoothing=0.0)
    logit = 1 / temperature
    for part, other in zip(one_hot[0], traced[0], strict=True):
        np.testing.assert_allclose(part, other, rtol=2e-6, atol=5e-7 * max(logit, 1))
    for gradient, other in zip(one_hot[1][:2], traced[1][:2], strict=True):
        np.testing.assert_allclose(gradient, other, rtol=2e-6, atol=5e-7 * max(logit, 1) ** 2 / n)


@pytest.mark.slow
@few
@hypothesis.given(seeds, st.sampled_from(SIZES), st.floats(0.01, 0.99))
def test_smoothing_moves_towards_a_uniform_target(seed, n, smoothing):
    """(1 - a) of the loss with the right target and a of the mean over all targets."""
    za, zb = unit_vectors(seed, n)
    smoothed, _ = evaluate("infonce", za, zb, temperature=0.5, smoothing=smoothing)
    log_p = np.asarray(jax.nn.log_softmax(za.astype(np.float64) @ zb.T / 0.5))
    expected = -(1 - smoothing) * np.diag(log_p) - smoothing * log_p.mean(axis=1)
    np.testing.assert_allclose(smoothed[0], expected, rtol=1e-5, atol=5e-6)


@pytest.mark.slow
@few
@hypothesis.given(st.integers(1, DIM), st.floats(0.001, 1e4), st.floats(0, 0.999))
def test_separated_pairs_within_their_margin_cost_nothing(n, norm, share):
    """Orthogonal pairs lie norm² apart: any smaller margin is kept, a margin of 0 among them."""
    z = np.float32(norm) * np.eye(DIM, dtype=np.float32)[:n]
    for margin in (0.0, share * norm**2):
        for part in aj.losses.max_margin(z, z, margin=margin):
            np.testing.assert_array_equal(part, np.zeros(n))


@few
@hypothesis.given(seeds, st.sampled_from(SIZES), st.floats(0.05, 10))
def test_infonce_of_equal_embeddings_is_chance(seed, n, temperature):
    z = np.repeat(unit_vectors(seed, 1)[0], n, axis=0)
    parts, _ = evaluate("infonce", z, z, temperature=temperature)
    for part in parts:
        np.testing.assert_allclose(part, np.full(n, np.log(n)), rtol=1e-5, atol=1e-5)


@few
@hypothesis.given(seeds, st.floats(-10, 0))
def test_a_temperature_that_is_not_positive_is_refused(seed, temperature):
    za, zb = unit_vectors(seed, 2)
    with pytest.raises(ValueError, match="temperature"):
        aj.losses.infonce(za, zb, temperature=temperature)


@pytest.mark.slow
@few
@hypothesis.given(batches)
def test_normalised_embeddings_have_length_one_or_zero(parameters):
    za, _ = batch(**parameters)
    z, pull_back = jax.vjp(aj.losses.l2_normalize, za)
    lengths = np.linalg.norm(np.asarray(z, np.float64), axis=1)
    original = np.linalg.norm(np.asarray(za, np.float64), axis=1)
    np.testing.assert_allclose(lengths[original > 1e-11], 1.0, rtol=1e-6)
    np.testing.assert_array_equal(lengths[original < 1e-13], 0.0)
    assert finite(pull_back(jnp.ones_like(z)))
