"""What `loss.precision` chooses, and that a run multiplies as it asks."""

import jax
import pytest

from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.assembly.loss_precision import loss_precision, lowest_temperature, precision_notes


def section(name="temperature", **settings):
    found = configs.default()[name]
    found.update(settings)
    return found


def chosen(precision="auto", similarity="auto", **settings):
    return loss_precision(section("loss", precision=precision, similarity=similarity), section(**settings))


def notes(precision):
    return precision_notes(section("loss", precision=precision), section())


@pytest.mark.parametrize(
    ("settings", "lowest"),
    [
        ({}, 0.07),
        ({"learned": False, "init": 0.05}, 0.05),
        ({"schedule": "cosine", "min_shift": 0.04}, 0.04),
        ({"schedule": "mm_ts", "min_shift": 0.05, "alpha": 0.08}, 0.01),
    ],
)
def test_the_lowest_temperature_of_a_run(settings, lowest):
    assert lowest_temperature(section(**settings)) == pytest.approx(lowest)


def test_auto_is_exact_on_cpus_and_at_temperatures_that_were_not_measured(monkeypatch):
    assert chosen() == "float32"
    assert notes("auto") == ()
    assert "slower than float32 on a CPU" in notes("bfloat16")[0]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert chosen() == "bfloat16_3x"
    assert chosen(init=0.004) == chosen(similarity="pallas:128") == "float32"
    assert [chosen(name) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    assert notes("auto")[0].startswith("loss.precision: bfloat16_3x (")
    assert notes("bfloat16") == ()


def test_a_run_multiplies_as_its_precision_says():
    losses = {}
    for precision in ("float32", "bfloat16_3x", "bfloat16"):
        config = configs.load("quickstart.py:runlocal,data=synthetic:train=16,val=8,test=8,size=16")
        config.loss.precision, config.train.devices = precision, 1
        experiment = build(config).experiment
        batch = next(experiment.batches(experiment.sampler.order({}, 0).reshape(1, -1)[:, :8], 0, 0))
        params, state = jax.jit(experiment.model.init)(jax.random.key(0), batch["a"], batch["b"])
        found = jax.jit(
            lambda params, batch, e=experiment, state=state: e.objective(
                e.model.apply, params, state, e.objective.init(), batch, step=0, key=jax.random.key(1), axis_name=None
            )[0]
        )(params, batch)
        losses[precision] = float(found)
    exact = losses["float32"]
    assert 0 < abs(losses["bfloat16"] - exact) < 0.1 * exact
    assert abs(losses["bfloat16_3x"] - exact) < 0.1 * abs(losses["bfloat16"] - exact)
