"""The schedules against the authors' own numbers."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import schedules
from alignment_jax.core import ConfigError

pytestmark = pytest.mark.optimized

DATA = pathlib.Path(__file__).parent / "data"
ULP = 2.0**-24


def load(name):
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


TEMPERATURE, SHIFT, INFONCE, MARGIN = map(load, ("mmts_temperature", "mmts_shift", "mmts_infonce", "mmts_max_margin"))


@pytest.mark.parametrize("row", range(len(TEMPERATURE["alpha"])))
def test_oscillation(row):
    alpha, period, steps = (TEMPERATURE[name][row] for name in ("alpha", "period", "steps"))
    ours = jax.jit(schedules.oscillation(float(alpha), int(period)))(jnp.asarray(steps, jnp.int32))
    # Every step, late ones too: ours reduces the step in integers and has the closed form's digits throughout.
    np.testing.assert_allclose(ours, TEMPERATURE["tau_base_exact64"][row], rtol=0, atol=8 * ULP * alpha / 2)
    # The authors round the phase 2 pi t / T in float32: they are off by that rounding times the slope alpha / 2.
    phase = 2 * np.pi * steps / period
    error = np.abs(np.asarray(ours, np.float64) - TEMPERATURE["tau_base"][row])
    assert (error <= alpha / 2 * ULP * (8 + 4 * phase)).all()


def test_a_period_of_zero_is_refused():
    """Deviation: NaN at every step in the authors' code."""
    assert np.isnan(TEMPERATURE["period0_tau_base"]).all()
    with pytest.raises(ConfigError, match="period"):
        schedules.oscillation(0.2, 0)


@pytest.mark.parametrize("row", range(len(TEMPERATURE["uni_tmin"])))
def test_temperature_of_one_modality(row):
    t_min, t_max, half = (TEMPERATURE[name][row] for name in ("uni_tmin", "uni_tmax", "uni_t_max"))
    schedule = schedules.cosine_temperature(float(t_min), float(t_max), 2 * int(half))
    ours = jax.jit(schedule)(jnp.asarray(TEMPERATURE["uni_epoch"], jnp.int32))
    # The authors round the phase pi e / t_max (up to 2 pi here and there) in float32.
    phase = np.pi * TEMPERATURE["uni_epoch"] / half
    error = np.abs(np.asarray(ours, np.float64) - TEMPERATURE["uni_tau"][row])
    assert (error <= t_max * ULP * (8 + 4 * phase)).all()


def shift_of(row, sizes):
    settings = {
        "min_size": SHIFT["min_count"][row],
        "max_size": SHIFT["max_count"][row],
        "min_shift": SHIFT["min_shift"][row],
        "max_shift": SHIFT["max_shift"][row],
    }
    return schedules.cluster_shift(sizes, **settings)


@pytest.mark.parametrize("row", range(len(SHIFT["min_count"])))
def test_cluster_shift(row):
    ours = shift_of(row, SHIFT["clusters"][row])
    expected = SHIFT["shift_f64"][row]
    largest = max(np.max(np.abs(expected)), SHIFT["max_shift"][row])
    np.testing.assert_allclose(ours, expected, rtol=8 * ULP, atol=8 * ULP * largest)
    np.testing.assert_allclose(ours, SHIFT["shift"][row], rtol=8 * ULP, atol=8 * ULP * largest)


def test_cluster_shift_of_one_size_for_all():
    """Deviation: the authors divide 0 by 0; ours gives the smallest shift."""
    assert not np.isfinite(SHIFT["degen_shift"]).any()
    count = SHIFT["degen_count"]
    ours = schedules.cluster_shift(
        SHIFT["degen_clusters"], min_size=count, max_size=count, min_shift=0.05, max_shift=0.2
    )
    np.testing.assert_array_equal(ours, np.full(5, np.float32(0.05)))


def test_equal_shifts_are_constant():
    ours = schedules.cluster_shift(
        SHIFT["degen_equal_shifts_clusters"], min_size=1, max_size=100, min_shift=0.1, max_shift=0.1
    )
    np.testing.assert_array_equal(ours, SHIFT["degen_equal_shifts"])


def settings_of(golden, case):
    names = {"min_size": "min_count", "max_size": "max_count"}
    return {
        name: golden[f"c{case}_{names.get(name, name)}"].item()
        for name in ("alpha", "period", "min_shift", "max_shift", "min_size", "max_size")
    }


CASES = [
    pytest.param(golden, name, case, id=f"{name}-c{case}")
    for golden, name in ((INFONCE, "tau"), (MARGIN, "margin"))
    for case in range(int(golden["n_cases"]))
]


@pytest.mark.parametrize(("golden", "name", "case"), CASES)
def test_mm_ts(golden, name, case):
    """Temperature and margin follow the same schedule."""
    settings, expected = settings_of(golden, case), golden[f"c{case}_{name}_f64"]
    if expected.min() <= 0:
        # Deviation: case 7 turns negative at half of every period in the authors' code.
        assert case == 7
        with pytest.raises(ConfigError, match="min_shift"):
            schedules.mm_ts(**settings)
        return
    schedule = schedules.mm_ts(**settings)
    ours = np.stack([schedule(int(t), golden[f"c{case}_clusters"]) for t in golden[f"c{case}_steps"]])
    # Sum of an oscillation and a shift, each rounded; the authors' phase is rounded too (few periods in, here).
    size = abs(settings["alpha"]) / 2 + settings["max_shift"]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=16 * ULP * size)
    np.testing.assert_allclose(ours, golden[f"c{case}_{name}"], rtol=0, atol=16 * ULP * size)
