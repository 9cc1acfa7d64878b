"""A profile of some steps changes nothing else, and a NaN is traced to its operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.core.errors import RunError
from alignment_jax.train.diagnostics import FOLDER, StepProfile, nan_check
from alignment_jax.train.experiment import Plan
from alignment_jax.train.loop import fit


@pytest.fixture
def calls(monkeypatch):
    """Names of calls of the profiler, which writes nothing."""
    found = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: found.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append("stop"))
    return found


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (0, [2, 3, "start", 5, 6, "stop", 8, 9]),
        (4, ["start", 6, "stop", 8, 9]),  # a resumed run
        (6, [8, 9]),
    ],
)
def test_calls_of_several_steps_end_where_the_profile_does(first, expected, calls, tmp_path):
    plan = Plan(total_steps=9, log_every=0, evaluate_every=0, save_every=0, profile=(4, 6))
    profile, step = StepProfile(plan.profile, tmp_path, message=print), first
    while step < plan.total_steps:
        profile.before(step)
        step += min(2, plan.steps_ahead(step))
        calls.append(step)
        profile.after(step, jnp.zeros(()))
    assert calls == expected


def test_a_profile_is_written_and_changes_no_bit(tmp_path, capsys):
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 40, 6)).astype(np.float32)
    split = np.array(["train"] * 32 + ["val"] * 8)
    np.savez(tmp_path / "e.npz", image=image, text=text, text_to_image=np.arange(40), split=split)
    found = {}
    for steps in ("", "2-3"):
        config = configs.load(f"flickr8k_frozen.py:method=baseline,data=embeddings:{tmp_path}/e.npz,steps=5")
        config.train.devices, config.train.profile, config.input.batch_size = 1, steps, 8
        found[steps] = fit(build(config).experiment, tmp_path / f"run{steps}", tensorboard=False).variables
    for one, other in zip(*map(jax.tree.leaves, found.values()), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "profile written to" in capsys.readouterr().err
    assert list((tmp_path / "run2-3" / FOLDER).rglob("*.xplane.pb"))
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_nan_is_an_error_that_names_the_operation():
    step = jax.jit(lambda x: jnp.log(x) * 2)
    assert np.isnan(step(-1.0))
    with nan_check(False):
        step(-1.0)
    with pytest.raises(RunError, match=r"train\.debug_nans: .*nan.*log"), nan_check(True):
        step(-1.0)
