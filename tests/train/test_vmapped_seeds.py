"""Seeds that train together get the results of single runs."""

import dataclasses

import jax
import numpy as np
import pytest
from cli_runs import write_embeddings

from alignment_jax import config as configs
from alignment_jax.assembly.build import build, with_seed
from alignment_jax.core.errors import RunError
from alignment_jax.report import read_metrics
from alignment_jax.train.loop import fit, placement_of
from alignment_jax.train.vmapped_seeds import fit_seeds, vmap_obstacle


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_embeddings(tmp_path_factory.mktemp("data") / "pairs.npz")


def make_config(pairs, **changes):
    config = configs.default()
    config.data = f"embeddings:{pairs}"
    config.model.dim, config.input.batch_size, config.train.devices = 8, 14, 1
    config.model.blocks_a = config.model.blocks_b = 0  # compiled in a tenth of the time
    config.train.duration, config.log.interval, config.eval.interval = "3 epochs", "2 steps", "1 epochs"
    config.optimizer.learning_rate = 0.01
    config.update_from_flattened_dict(changes)
    return config


def test_another_seed_is_the_run_that_build_would_make(pairs):
    built = with_seed(build(make_config(pairs)), 3)
    other = build(make_config(pairs, seed=3))
    assert built.experiment.config == other.experiment.config
    assert built.experiment.sampler == other.experiment.sampler
    rows = np.arange(28).reshape(2, 14)
    for found, expected in zip(built.experiment.batches(rows, 1, 0), other.experiment.batches(rows, 1, 0), strict=True):
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


METHODS = {
    "everything at once": {
        "weighting.signal": "variance",
        "perturb.sigma": 0.1,
        "perturb.relative": True,
        "perturb.fusemix": 1.0,
        "smoothing.start": 0.1,
        "temperature.schedule": "mm_ts",
        "optimizer.ema": 0.9,
    },
    "a start that is a candidate": {"init.name": "cca", "model.final_norm": False, "train.duration": "2 epochs"},
    "plain, with an end inside an epoch": {"train.duration": "7 steps", "eval.interval": "3 steps"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_together_is_alone(method, pairs, tmp_path):
    built = build(make_config(pairs, **METHODS[method]))
    seeds = [with_seed(built, seed) for seed in (0, 1, 4)]
    steps = []
    together = fit_seeds([one.experiment for one in seeds], progress=steps.append)
    assert steps[-1] == built.experiment.plan.total_steps
    placement = placement_of(built.experiment)
    values = set()
    for one, outcome in zip(seeds, together, strict=True):
        folder = tmp_path / str(one.experiment.seed)
        alone = fit(one.experiment, folder, quiet=True, tensorboard=False, placement=placement)
        rows = read_metrics(folder / "metrics.jsonl")
        assert [row.keys() for row in outcome.history] == [row.keys() for row in rows]
        for found, expected in zip(outcome.history, rows, strict=True):
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
        for found, expected in zip(*map(jax.tree.leaves, (outcome.variables, alone.variables)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
        position = alone.position
        assert (outcome.best_step, outcome.steps, outcome.pairs) == (position.best_step, position.step, position.pairs)
        values.add(rows[-1]["train/loss"])
    assert len(values) == 3  # each seed has its own order, noise and initial state


OBSTACLES = {
    "does not live on the device": {"input.resident": "off"},
    "several devices": {"train.devices": 2},
    "scores": {"sampling.name": "probabilistic"},
    "stop early": {"eval.patience": 3},
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_runs_that_cannot_train_together_give_the_reason(reason, pairs):
    experiment = build(make_config(pairs, **OBSTACLES[reason])).experiment
    assert reason in vmap_obstacle(experiment)
    with pytest.raises(ValueError, match=reason):
        fit_seeds([experiment])


@pytest.mark.slow
def test_one_seed_that_diverges_ends_all_with_its_name(pairs):
    built = build(make_config(pairs))
    model = built.experiment.model
    bad = dataclasses.replace(model, init=lambda key, *x: jax.tree.map(lambda p: p * np.nan, model.init(key, *x)))
    with pytest.raises(RunError, match=r"seed 5, step 1: "):
        fit_seeds([dataclasses.replace(with_seed(built, 5).experiment, model=bad)])
