from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alignment_jax as aj
from alignment_jax.core import ConfigError


def statistics(ab, ba):
    pair = (jnp.float32(ab), jnp.float32(ba))
    other = (jnp.float32(7.0), jnp.float32(7.0))  # read by a wrong signal only
    return SimpleNamespace(variance=pair, entropy=other, spread=other, probability=other, loss=other)


def run(values, **settings):
    init, update = aj.weighting.directional("variance", **settings)
    state, out = init(), []
    for ab, ba in values:
        weights, state = update(statistics(ab, ba), state)
        out.append([float(w) for w in weights])
    return np.array(out), state


def test_weights_are_the_share_of_the_moving_average():
    values = [(0.3, 0.1), (0.1, 0.1), (0.0, 0.4)]
    average, expected = np.zeros(2), []
    for step, value in enumerate(values, start=1):
        average = 0.9 * average + 0.1 * np.array(value)
        corrected = average / (1 - 0.9**step)
        expected.append(2 * corrected / corrected.sum())
    np.testing.assert_allclose(run(values)[0], expected, rtol=1e-6)


def test_inverse_mode_weighs_by_one_over_the_average():
    np.testing.assert_allclose(run([(0.3, 0.1)], mode="inverse")[0], [[0.5, 1.5]], rtol=1e-6)


@pytest.mark.parametrize("signal", ["variance", "entropy", "spread", "probability", "loss"])
def test_each_signal_reads_its_own_statistic(signal):
    init, update = aj.weighting.directional(signal)
    weights, _ = update(SimpleNamespace(**{signal: statistics(3.0, 1.0).variance}), init())
    np.testing.assert_allclose(weights, [1.5, 0.5], rtol=1e-6)


def test_fixed_needs_no_statistics():
    init, update = aj.weighting.directional("fixed")
    weights, state = update(None, init())
    assert [float(w) for w in weights] == [1.0, 1.0]
    assert int(state.count) == 1


def test_strength_mixes_with_one():
    np.testing.assert_allclose(run([(0.3, 0.1)], strength=0.5)[0], [[1.25, 0.75]], rtol=1e-6)
    np.testing.assert_array_equal(run([(0.3, 0.1)], strength=0.0)[0], [[1.0, 1.0]])


def test_floor_is_the_least_weight():
    np.testing.assert_allclose(run([(1.0, 0.0), (0.0, 50.0)], floor=0.3)[0], [[1.7, 0.3], [0.3, 1.7]], rtol=1e-6)
    np.testing.assert_array_equal(run([(1.0, 0.0)], floor=1.0)[0], [[1.0, 1.0]])


def test_warm_up_keeps_one_while_the_average_follows():
    values = [(0.3, 0.1), (0.1, 0.3), (0.2, 0.1)]
    weights, state = run(values, warmup_steps=2)
    np.testing.assert_array_equal(weights[:2], np.ones((2, 2)))
    np.testing.assert_allclose(weights[2], run(values)[0][2], rtol=1e-6)
    assert int(state.count) == 3


@pytest.mark.parametrize("mode", ["proportional", "inverse"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((0.0, 0.0), (1.0, 1.0)),
        ((-1e-9, 0.0), (1.0, 1.0)),
        ((1e-45, 0.0), (1.0, 1.0)),
        ((3e38, 3e38), (1.0, 1.0)),
        ((3e38, 1e38), (1.5, 0.5)),
        ((1e-30, 0.0), (2.0, 0.0)),
    ],
)
def test_extreme_statistics(mode, value, expected):
    expected = expected if mode == "proportional" else expected[::-1]
    np.testing.assert_allclose(run([value], mode=mode, decay=0.0)[0], [expected], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_statistic_that_is_not_finite_does_not_stay(bad):
    weights, state = run([(0.3, 0.1), (bad, 0.1), (0.3, 0.1)])
    assert np.isfinite(weights).all()
    np.testing.assert_array_equal(weights[1], [1.0, 1.0])
    np.testing.assert_allclose(weights[2], [1.5, 0.5], rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_the_state_is_a_tree_of_arrays_that_scan_carries():
    init, update = aj.weighting.directional(decay=0.5)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(init()))
    values = jnp.array([(0.3, 0.1), (0.1, 0.1), (0.2, 0.4)])

    def body(state, value):
        weights, state = update(SimpleNamespace(variance=(value[0], value[1])), state)
        return state, jnp.stack(weights)

    _, weights = jax.lax.scan(body, init(), values)
    np.testing.assert_allclose(weights, run(values, decay=0.5)[0], rtol=1e-6)


def test_no_gradient_passes_through_the_weights():
    init, update = aj.weighting.directional()

    def weight(x):
        return update(SimpleNamespace(variance=(x, jnp.float32(1.0))), init())[0][0]

    assert float(jax.grad(weight)(jnp.float32(2.0))) == 0.0


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (dict(signal="variences"), "signal"),
        (dict(mode="backwards"), "mode"),
        (dict(strength=1.5), "strength"),
        (dict(floor=-0.1), "floor"),
        (dict(floor=1.01), "floor"),
        (dict(floor=float("nan")), "floor"),
        (dict(decay=1.0), "decay"),
        (dict(warmup_steps=-1), "warmup_steps"),
    ],
)
def test_errors_name_the_argument(settings, word):
    with pytest.raises(ConfigError, match=word):
        aj.weighting.directional(**settings)
