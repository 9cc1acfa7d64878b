"""Properties of every schedule. A new schedule adds one row to TABLE."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import schedules

SIZES = np.array([1.0, 2.0, 50.0, 100.0, 1000.0], np.float32)


@dataclasses.dataclass(frozen=True)
class Row:
    """`build` gives step -> value; `low` and `high` bound it for good; `repeats`: whether it returns to its start."""

    build: Callable
    low: float
    high: float
    repeats: int | None = None


def mm_ts():
    schedule = schedules.mm_ts(alpha=0.2, period=100, min_shift=0.17, max_shift=0.3, min_size=1, max_size=1000)
    return lambda step: schedule(jnp.asarray(step)[..., None], SIZES)


TABLE = {
    "constant": Row(lambda: schedules.constant(0.3), 0.3, 0.3),
    "linear": Row(lambda: schedules.linear(0.1, 0.7, 50), 0.1, 0.7),
    "cosine": Row(lambda: schedules.cosine(0.7, 0.1, 50), 0.1, 0.7),
    "oscillation": Row(lambda: schedules.oscillation(0.4, 100), -0.2, 0.2, repeats=100),
    "cosine_temperature": Row(lambda: schedules.cosine_temperature(0.1, 0.7, 100), 0.1, 0.7, repeats=100),
    "mm_ts": Row(mm_ts, 0.07, 0.4, repeats=100),
}
NOT_OF_STEPS = {"cluster_shift"}
every_schedule = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
STEPS = np.array([0, 1, 7, 49, 50, 99, 100, 12_345, 10**6, 2**31 - 1], np.int32)


def test_the_table_holds_every_schedule():
    assert set(schedules.__all__) == set(TABLE) | NOT_OF_STEPS


@every_schedule
def test_float32_of_the_shape_of_the_step(row):
    schedule = row.build()
    one, many = schedule(3), schedule(jnp.asarray(STEPS))
    assert one.dtype == many.dtype == jnp.float32
    assert many.shape == (len(STEPS), *one.shape)


@every_schedule
def test_compiled_equals_eager_and_a_vector_of_steps_equals_a_loop(row):
    schedule = row.build()
    expected = np.stack([schedule(int(step)) for step in STEPS])
    for found in (schedule(jnp.asarray(STEPS)), jax.jit(schedule)(STEPS), jax.jit(jax.vmap(schedule))(STEPS)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@every_schedule
def test_in_a_scan_over_steps(row):
    schedule = row.build()
    _, found = jax.lax.scan(lambda step, _: (step + 1, schedule(step)), jnp.int32(0), None, length=8)
    np.testing.assert_allclose(found, schedule(jnp.arange(8)), rtol=1e-6, atol=1e-7)


@every_schedule
def test_values_stay_within_their_bounds_for_good(row):
    values = np.asarray(row.build()(jnp.asarray(STEPS)))
    assert np.isfinite(values).all()
    assert values.min() >= row.low * (1 - 1e-6) - 1e-6 * (row.low < 0)
    assert values.max() <= row.high * (1 + 1e-6)


@every_schedule
def test_repeats_to_the_bit_or_comes_to_rest(row):
    schedule, steps = row.build(), jnp.arange(100)
    if row.repeats:
        np.testing.assert_array_equal(schedule(steps), schedule(steps + 10_000 * row.repeats))
    else:
        np.testing.assert_array_equal(schedule(steps + 50), schedule(steps + 10**6))


def test_cluster_shift_is_a_function_of_each_size():
    settings = dict(min_size=1, max_size=1000, min_shift=0.1, max_shift=0.3)
    whole = jax.jit(lambda sizes: schedules.cluster_shift(sizes, **settings))(SIZES)
    assert whole.dtype == jnp.float32
    np.testing.assert_allclose(whole, [schedules.cluster_shift(size, **settings) for size in SIZES], rtol=1e-6)
    assert (np.diff(whole) > 0).all()
    integers = schedules.cluster_shift(SIZES.astype(np.int32), **settings)
    np.testing.assert_array_equal(integers, schedules.cluster_shift(SIZES, **settings))
