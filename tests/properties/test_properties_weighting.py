"""Properties of the direction weights for any statistics and settings."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.weighting import DirectionStatistics, direction_statistics, directional

settings = hypothesis.settings(max_examples=40)
STEPS = 5

anything = st.one_of(
    st.floats(0, 1e3, width=32),
    st.floats(0, width=32, allow_nan=False, allow_infinity=True),
    st.sampled_from([0.0, np.nan, np.inf, 1e-45, 3e38, -1e-9]),
)
histories = st.lists(st.tuples(anything, anything), min_size=STEPS, max_size=STEPS)
unit = st.floats(0, 1)


@pytest.mark.slow
@settings
@hypothesis.given(
    histories,
    st.sampled_from(["variance", "entropy", "spread"]),
    st.sampled_from(["proportional", "inverse"]),
    st.floats(0, 0.999),
    unit,
    unit,
    st.integers(0, STEPS),
)
def test_weights_sum_to_two_and_stay_within_their_bounds(history, signal, mode, decay, strength, floor, warmup_steps):
    init, update = directional(
        signal, mode=mode, decay=decay, strength=strength, floor=floor, warmup_steps=warmup_steps
    )
    state = init()
    for step, values in enumerate(history):
        pair = tuple(map(np.float32, values))
        (w_ab, w_ba), state = update(DirectionStatistics(pair, pair, pair), state)
        assert w_ab + w_ba == 2.0  # in float32, to the bit
        lowest = max(floor, 1 - strength)
        assert lowest - 1e-6 <= float(w_ab) <= 2 - lowest + 1e-6
        assert step >= warmup_steps or float(w_ab) == 1.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@functools.cache
def compiled():
    init, update = directional("variance", decay=0.5)

    @jax.jit
    def step(state, za, zb, temperature):
        statistics = direction_statistics(za, zb, temperature=temperature)
        weights, state = update(statistics, state)
        return weights, state, statistics

    return init, step


@pytest.mark.slow
@settings
@hypothesis.given(
    st.integers(0, 2**16),
    st.sampled_from([1, 2, 7, 32]),
    st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
    st.sampled_from([0.001, 0.07, 10.0]),
)
def test_weights_of_any_embeddings(seed, n, norm, temperature):
    za, zb = np.random.default_rng(seed).normal(size=(2, n, 8)).astype(np.float32) * np.float32(norm)
    init, step = compiled()
    weights, _, statistics = step(init(), za, zb, jnp.float32(temperature))
    assert weights[0] + weights[1] == 2.0
    assert all(np.isfinite(leaf) and leaf >= 0 for leaf in jax.tree.leaves(statistics))
    assert all(float(h) <= np.log(n) * (1 + 1e-6) + 1e-6 for h in statistics.entropy)
