import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alignment_jax as aj
from alignment_jax.core import ConfigError

schedules = aj.schedules
EPIC = dict(alpha=0.2, period=100, min_shift=0.17, max_shift=0.3, min_size=2, max_size=3617)


@pytest.mark.parametrize("period", [1, 7, 1000, 65_537, 1000 / 3, 12_345 / 7, 0.5])
def test_oscillation_does_not_drift_in_long_runs(period):
    steps = np.array([0, 1, 3, 999, 10**6 + 3, 10**9 + 7, 2**31 - 1])
    # Exact rational phase in Python integers, then float64.
    expected = 0.15 * np.cos(2 * np.pi * np.array([float(_fraction_of_turn(int(t), period)) for t in steps]))
    actual = jax.jit(schedules.oscillation(0.3, period))(jnp.asarray(steps, jnp.int32))
    np.testing.assert_allclose(actual, expected, atol=1e-7)


def _fraction_of_turn(step, period):
    from fractions import Fraction

    return Fraction(step) / Fraction(period).limit_denominator(100) % 1


def test_oscillation_repeats_exactly():
    schedule = schedules.oscillation(0.2, 977)
    steps = jnp.arange(977)
    np.testing.assert_array_equal(schedule(steps), schedule(steps + 977 * 1000))


def test_oscillation_takes_fractional_steps():
    np.testing.assert_allclose(schedules.oscillation(2.0, 10)(jnp.float32(2.5)), 0.0, atol=1e-7)
    np.testing.assert_allclose(schedules.oscillation(2.0, 10)(jnp.float32(17.5)), 0.0, atol=1e-6)


def test_cosine_temperature_starts_high_and_stays_within_its_ends():
    schedule = schedules.cosine_temperature(0.1, 0.7, 64)
    values = np.asarray(schedule(jnp.arange(129)))
    assert values[0] == values[64] == np.float32(0.7)
    assert values[32] == np.float32(0.1)
    assert values.min() >= np.float32(0.1)
    assert values.max() <= np.float32(0.7)
    np.testing.assert_allclose(values[16], 0.4, rtol=1e-6)


def test_cluster_shift_of_a_constant_distribution_is_the_minimum():
    shift = schedules.cluster_shift(jnp.array([4.0, 5.0, 6.0]), min_size=5, max_size=5, min_shift=0.1, max_shift=0.3)
    np.testing.assert_array_equal(shift, np.float32([0.1, 0.1, 0.1]))


def test_cluster_shift_takes_traced_ranges():
    def shift(low, high):
        return schedules.cluster_shift(jnp.array([3]), min_size=low, max_size=high, min_shift=0.1, max_shift=0.3)

    np.testing.assert_allclose(jax.jit(shift)(1, 5), [0.2], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(shift)(3, 3), [0.1], rtol=1e-6)


def test_mm_ts_is_oscillation_plus_shift():
    sizes = jnp.array([2, 100, 3617])
    shift_only = {name: EPIC[name] for name in ("min_shift", "max_shift", "min_size", "max_size")}
    for step in (0, 13, 50, 120):
        expected = schedules.oscillation(0.2, 100)(step) + schedules.cluster_shift(sizes, **shift_only)
        np.testing.assert_array_equal(schedules.mm_ts(**EPIC)(step, sizes), expected)


def test_mm_ts_stays_positive_for_sizes_outside_the_range():
    schedule = schedules.mm_ts(alpha=0.2, period=10, min_shift=0.11, max_shift=0.9, min_size=50, max_size=51)
    values = np.asarray(schedule(5, jnp.array([0.0, 1.0, 50.0, 51.0])))
    np.testing.assert_allclose(values, [0.005, 0.005, 0.01, 0.8], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(alpha=0.6, min_shift=0.05), ["alpha=0.6", "min_shift=0.05"]),
        (dict(alpha=0.34), ["alpha", "min_shift"]),  # falls to exactly 0
        (dict(alpha=-0.6), ["alpha=-0.6"]),  # a negative amplitude oscillates as far
        (dict(max_shift=0.05), ["max_shift=0.05"]),
        (dict(min_shift=-0.1), ["min_shift"]),
        (dict(alpha=0.2, min_shift=0.1 + 1e-12), ["min_shift"]),  # positive in Python, zero in float32
        (dict(alpha=float("nan")), ["alpha"]),
        (dict(max_shift=float("inf")), ["max_shift"]),
        (dict(min_size=10, max_size=9), ["max_size", "min_size"]),
        (dict(period=0), ["period"]),
        (dict(period=-5), ["period"]),
        (dict(period=float("inf")), ["period"]),
        (dict(period=2**31), ["period"]),
    ],
)
def test_mm_ts_refuses_at_build_time(change, words):
    with pytest.raises(ValueError, match=words[0]) as error:
        schedules.mm_ts(**{**EPIC, **change})
    assert isinstance(error.value, ConfigError)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_mm_ts_of_one_cluster_size_is_min_shift():
    schedule = schedules.mm_ts(**{**EPIC, "min_size": 7, "max_size": 7})
    np.testing.assert_allclose(schedule(0, jnp.array([7, 7])), [0.27, 0.27], rtol=1e-6)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (0.3, 0.0), (0.1, 0.1), (0.1, 0.7)])
def test_moves_start_end_and_never_overshoot(name, start, end):
    schedule = getattr(schedules, name)(start, end, 30)
    values = np.asarray(schedule(jnp.arange(100)))
    assert values[0] == np.float32(start)
    assert (values[30:] == np.float32(end)).all()
    assert values.min() >= np.float32(min(start, end))
    assert values.max() <= np.float32(max(start, end))
    assert (np.diff(values) * np.sign(end - start) >= 0).all()
    np.testing.assert_allclose(values[15], (start + end) / 2, atol=1e-7)


def test_linear_and_cosine_differ_between_the_ends():
    np.testing.assert_allclose(schedules.linear(0.0, 1.0, 4)(1), 0.25)
    np.testing.assert_allclose(schedules.cosine(0.0, 1.0, 4)(1), 0.5 - np.sqrt(0.125), rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: schedules.cosine_temperature(0.0, 1.0, 10), "t_min"),
        (lambda: schedules.cosine_temperature(0.5, 0.1, 10), "t_max"),
        (lambda: schedules.cosine_temperature(0.1, 0.5, 0), "period"),
        (lambda: schedules.oscillation(0.1, float("nan")), "period"),
        (lambda: schedules.linear(0.0, float("nan"), 10), "end"),
        (lambda: schedules.cosine(0.0, 0.1, 0), "steps"),
        (lambda: schedules.linear(0.0, 0.1, -1), "steps"),
        (lambda: schedules.constant(float("inf")), "value"),
    ],
)
def test_errors_name_the_argument(build, word):
    with pytest.raises(ConfigError, match=word):
        build()
