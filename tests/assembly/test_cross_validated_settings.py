"""The recipe chooses its settings inside train; its choice is kept in the run's configuration."""

import numpy as np
import pytest

from alignment_jax import baselines
from alignment_jax import config as configs
from alignment_jax.assembly import cross_validated_settings as chosen
from alignment_jax.assembly.build import build
from alignment_jax.assembly.inferred_settings import restore_inferred_settings
from alignment_jax.assembly.trial_training import trial_scores
from alignment_jax.core import ConfigError
from alignment_jax.retrieval import HubnessCorrection
from alignment_jax.train.objective import infonce_pair_loss


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Latents of 80 items without a val split."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(80, 6))
    path = tmp_path_factory.mktemp("latents") / "few.npz"
    split = np.array(["train"] * 60 + ["test"] * 20)
    a, b = (shared @ rng.normal(size=(6, d)) + 0.8 * rng.normal(size=(80, d)) for d in (16, 12))
    np.savez(path, a=a.astype(np.float32), b=b.astype(np.float32), split=split)
    return path


def recipe(file, **settings):
    config = configs.default()
    config.data = f"embeddings:{file}"
    config.model.update(blocks_a=0, blocks_b=0, final_norm=False, input_norm="l2")
    config.init.update(name="cca", power="auto", selection="cross_validation", training="auto")
    config.eval.hubness = "auto"
    config.train.duration = "10 epochs"
    config.update_from_flattened_dict(settings)
    return config


@pytest.fixture(scope="module")
def built(file):
    return build(recipe(file))


def test_every_setting_becomes_a_value_without_val(built):
    config = built.experiment.config
    a, b = map(float, config["init"]["shrinkage"].split("+"))
    assert a in chosen.SHRINKAGES
    assert b in chosen.SHRINKAGES
    assert int(config["init"]["dim"]) in (3, 6, 12)
    assert float(config["init"]["power"]) in chosen.POWERS
    assert config["init"]["training"] == "always"
    HubnessCorrection.parse(config["eval"]["hubness"])
    assert (config["train"]["duration"] == "0 steps") == (built.experiment.plan.total_steps == 0)


def test_a_resumed_run_keeps_its_choice(file, built, monkeypatch):
    monkeypatch.setattr(chosen, "_choose", lambda *arguments: pytest.fail("chosen again"))
    restored = restore_inferred_settings(recipe(file), built.experiment.config)
    assert build(restored, resuming=True).experiment.config == built.experiment.config


@pytest.mark.parametrize(("gain", "duration"), [((0.1, 0.1), "10 epochs"), ((0.3, -0.01), "0 steps")])
def test_it_trains_only_where_every_part_gains(file, monkeypatch, gain, duration):
    scores = np.zeros((2, 2, 2))
    scores[:, 1, 0] = gain
    monkeypatch.setattr(chosen, "trial_scores", lambda *arguments, **options: scores)
    given = {"init.shrinkage": "0.5", "init.dim": "4", "init.power": "1.0", "eval.hubness": "none"}
    assert build(recipe(file, **given)).experiment.config["train"]["duration"] == duration


def test_without_steps_there_is_no_trial(file, monkeypatch):
    monkeypatch.setattr(chosen, "trial_scores", lambda *arguments, **options: pytest.fail("trained"))
    given = {"init.shrinkage": "0.5", "init.dim": "4", "init.power": "1.0", "train.duration": "0 steps"}
    assert build(recipe(file, **given)).experiment.plan.total_steps == 0


@pytest.mark.slow
def test_a_trial_trains_from_the_closed_form():
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(120), 2)
    shared = rng.normal(size=(120, 6))
    # Large directions without a partner: without whitening the start sees little else.
    za = np.concatenate([shared, 3.0 * rng.normal(size=(120, 6))], axis=1)[None].astype(np.float32)
    zb = np.concatenate([shared[own], 3.0 * rng.normal(size=(240, 6))], axis=1)[None].astype(np.float32)
    folds = baselines.hold_out(120, 240, b_to_a=own, folds=2)
    optimizer = configs.default().optimizer
    optimizer.learning_rate = 0.03
    options = dict(
        pair_loss=infonce_pair_loss(), optimizer=optimizer, batch_size=60, temperature=0.1, average_views=True, seed=0
    )
    poor = baselines.CcaSettings((1.0, 1.0), 12, 0.0, 4, 0.5)
    scores = trial_scores(za, zb, folds, poor, duration="40 epochs", ids_b=np.arange(240), **options)
    assert (scores[:, 1] > scores[:, 0]).all()
    again = trial_scores(za, zb, folds, poor, duration="40 epochs", ids_b=np.arange(240), **options)
    np.testing.assert_array_equal(scores, again)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"init.selection": "val"}, "init.training"),
        ({"init.selection": "folds"}, "init.selection"),
        ({"loss.name": "sigmoid"}, "init.training"),
        ({"init.similarity": "weighted_cosine"}, "init.similarity"),
        ({"model.blocks_a": 1, "model.zero_init": False}, "model.zero_init"),
    ],
)
def test_errors_name_the_setting(file, settings, word):
    with pytest.raises(ConfigError, match=word):
        build(recipe(file, **settings))
