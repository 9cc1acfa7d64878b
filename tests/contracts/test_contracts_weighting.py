"""Properties of every weighting of the two directions. A new one adds one row to TABLE."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.weighting import directional

SIGNALS = ("variance", "entropy", "spread", "probability", "loss")
VALUES = np.random.default_rng(0).uniform(0.01, 2.0, (12, 2)).astype(np.float32)
TABLE = {
    f"{signal}, {mode}": lambda signal=signal, mode=mode, **settings: directional(signal, mode=mode, **settings)
    for signal, mode in itertools.product(("fixed", *SIGNALS), ("proportional", "inverse"))
}
every_weighting = pytest.mark.parametrize("build", TABLE.values(), ids=TABLE)


def statistics(value):
    return SimpleNamespace(**dict.fromkeys(SIGNALS, (value[0], value[1])))


def run(build, values=VALUES, **settings):
    """Weights [steps, 2] of a compiled loop over steps, and the last state."""
    state, weights = compiled(build, **settings)(values)
    return np.asarray(weights), state


@functools.cache
def compiled(build, **settings):
    init, update = build(**settings)

    def body(state, value):
        weights, state = update(statistics(value), state)
        return state, jnp.stack(weights)

    return jax.jit(lambda values: jax.lax.scan(body, init(), values))


@every_weighting
def test_scan_equals_a_loop(build):
    init, update = build()
    state, expected = init(), []
    for value in VALUES:
        weights, state = update(statistics(value), state)
        assert all(weight.shape == () and weight.dtype == jnp.float32 for weight in weights)
        expected.append(weights)
    found, last = run(build)
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), last, state)


@every_weighting
@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0])
def test_weights_sum_to_two_and_stay_within_their_bounds(build, floor):
    extreme = np.array([(0, 0), (1, 0), (0, 1), (1e-38, 3e38), (3e38, 3e38), (np.nan, 1), (np.inf, 0)], np.float32)
    weights, _ = run(build, np.concatenate([VALUES, extreme, VALUES]), floor=floor)
    np.testing.assert_array_equal(weights.sum(axis=1), np.full(len(weights), 2.0))
    assert weights.min() >= np.float32(floor) * (1 - 1e-6)
    assert weights.max() <= (2 - floor) * (1 + 1e-6)


@every_weighting
def test_no_strength_is_the_fixed_baseline(build):
    np.testing.assert_array_equal(run(build, strength=0.0)[0], np.ones((len(VALUES), 2)))


@every_weighting
def test_equal_directions_weigh_the_same(build):
    equal = np.repeat(VALUES[:, :1], 2, axis=1)
    np.testing.assert_array_equal(run(build, equal)[0], np.ones((len(VALUES), 2)))


@every_weighting
def test_swapped_directions_swap_the_weights(build):
    np.testing.assert_allclose(run(build, VALUES[:, ::-1])[0], run(build)[0][:, ::-1], rtol=2e-6)


@every_weighting
def test_the_unit_of_the_statistic_does_not_matter(build):
    # By a power of two, so that nothing is rounded.
    np.testing.assert_array_equal(run(build, VALUES * 1024)[0], run(build)[0])


@every_weighting
def test_warm_up_keeps_one_and_then_joins_the_run_without(build):
    weights, state = run(build, warmup_steps=5)
    without, last = run(build)
    np.testing.assert_array_equal(weights[:5], np.ones((5, 2)))
    np.testing.assert_array_equal(weights[5:], without[5:])
    jax.tree.map(np.testing.assert_array_equal, state, last)


@every_weighting
def test_the_state_is_a_tree_of_arrays_of_one_type_for_good(build):
    init, update = build()
    _, state = update(statistics(VALUES[0]), init())
    leaves = jax.tree.leaves(init())
    assert all(isinstance(leaf, jax.Array) and leaf.shape == () for leaf in leaves)
    assert jax.tree.structure(init()) == jax.tree.structure(state)
    assert [leaf.dtype for leaf in leaves] == [leaf.dtype for leaf in jax.tree.leaves(state)]


@every_weighting
def test_a_resumed_run_continues_without_a_difference(build):
    half, state = run(build, VALUES[:6])
    init, update = build()
    del init
    weights = []
    for value in VALUES[6:]:
        pair, state = update(statistics(value), state)
        weights.append(pair)
    np.testing.assert_allclose(np.concatenate([half, weights]), run(build)[0], rtol=1e-6)


@every_weighting
def test_no_gradient_passes(build):
    init, update = build()

    def first(value):
        return update(statistics(value), init())[0][0]

    np.testing.assert_array_equal(jax.grad(first)(jnp.asarray(VALUES[0])), np.zeros(2))
