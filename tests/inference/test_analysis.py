"""The evaluations beyond recall, from a configuration and a model's variables to plain values."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import evals
from alignment_jax.assembly.build import build, with_seed
from alignment_jax.core.errors import ConfigError
from alignment_jax.inference.analysis import (
    FULL,
    QUICK,
    analyse,
    analyse_models,
    applicable_noises,
    embedding_arrays,
    softmax_temperature,
)
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.train.loop import evaluation_variables, initial_state


def frozen(embeddings, method="baseline", **changes):
    config = configs.default()
    config.data = f"embeddings:{embeddings}"
    config.train.devices = 1
    config.model.dim = 8
    config.model.blocks_a = config.model.blocks_b = 0
    configs.apply_methods(config, method)
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def untrained(embeddings):
    built = build(frozen(embeddings))
    return built, evaluation_variables(initial_state(built.experiment))


@pytest.mark.slow
def test_everything_that_suits_frozen_latents(untrained):
    built, variables = untrained
    found = analyse(built, variables)
    assert found == json.loads(json.dumps(found))
    assert found["calibration"]["temperature"] == pytest.approx(0.07)
    assert 0 <= found["calibration"]["fitted"]["ece"] <= 1
    assert sum(found["long_tail"][name]["queries_b2a"] for name in evals.BUCKETS) == 20
    rows = found["stress"]
    clean = built.experiment.evaluate(variables, built.experiment.evaluations["test"])
    assert rows[0]["metrics"] == clean
    assert [(row["kind"], row["side"]) for row in rows[1:]] == [("latent_noise", side) for side in "aaabbb"]
    assert set(found["retained"]) == {"latent_noise, a", "latent_noise, b"}
    again = analyse(built, variables)
    assert again == found
    other = analyse(built, variables, seed=1)
    assert other["stress"][0] == rows[0]
    assert other["stress"][1:] != rows[1:]


@pytest.mark.slow
def test_models_of_several_seeds_are_judged_as_each_alone(untrained):
    built, first = untrained
    second = evaluation_variables(initial_state(with_seed(built, 1).experiment))
    models = SeedModels(built, [first, second])
    both = analyse_models(models)
    for found, variables in zip(models.metrics("test"), (first, second), strict=True):
        plain = built.experiment.evaluate(variables, built.experiment.evaluations["test"])
        assert {key: found[key] for key in plain} == plain
    for found, variables in zip(both, (first, second), strict=True):
        alone = analyse(built, variables)
        assert found["long_tail"] == alone["long_tail"]
        assert found["stress"] == alone["stress"]
        assert found["calibration"]["a2b_nll"] == pytest.approx(alone["calibration"]["a2b_nll"], rel=1e-5)
    assert both[0]["stress"] != both[1]["stress"]


@pytest.mark.slow
def test_the_query_bank_of_several_seeds_is_that_of_each_alone(embeddings):
    """A bank of some of the 40 images and 80 texts of train; every seed draws the same."""
    changes = {"eval.bank_size": 30, "eval.hubness": "nnn:k=5"}
    built = build(frozen(embeddings, **changes))
    other = with_seed(build(frozen(embeddings, **changes)), 1)
    each = [evaluation_variables(initial_state(one.experiment)) for one in (built, other)]
    together = SeedModels(built, each)
    alone = SeedModels(other, each[1:])
    (_, found), (expected,) = together.hubness, alone.hubness
    for side in ("a", "b"):
        assert getattr(found.bank, side).shape == (30, 8)
        # The products of 10 or 12 numbers are summed in another order, and normalised.
        np.testing.assert_allclose(getattr(found.bank, side), getattr(expected.bank, side), atol=32 * 2**-24)
    assert str(found.correction) == "nnn:k=5,strength=0.5"
    assert together.metrics("test")[1] == pytest.approx(alone.metrics("test")[0])


def test_without_stress_and_with_an_unknown_one(untrained):
    built, variables = untrained
    assert "stress" not in analyse(built, variables, stress="none")
    with pytest.raises(ConfigError, match="gentle"):
        analyse(built, variables, stress="gentle")


def test_every_view_is_disturbed_where_an_item_is_the_mean_over_them(embeddings, tmp_path):
    """Noise too weak to matter must leave the clean recall, and not that of the first view alone."""
    with np.load(embeddings) as found:
        arrays = dict(found)
    arrays["image_flip"] = np.random.default_rng(5).permutation(arrays["image"])
    np.savez(tmp_path / "views.npz", **arrays)
    built = build(frozen(tmp_path / "views.npz", **{"eval.views": "mean"}))
    variables = evaluation_variables(initial_state(built.experiment))
    models = SeedModels(built, [variables])
    (clean,) = models.embedded("test")
    (noise, _) = applicable_noises(models, split="test", strengths={"latent_noise": (1e-6,)})
    np.testing.assert_allclose(noise.embed(1e-6, 0)[0], clean.a, atol=1e-4)
    first = built.evaluator.embed_side("a", variables, built.experiment.evaluations["test"].items_a())
    assert np.abs(first - clean.a).max() > 0.01


def test_noise_leaves_the_other_side_alone(untrained):
    """The stress test equals noise on latents by hand."""
    built, variables = untrained
    test, train = built.splits["test"], built.splits["train"]
    clean = built.evaluator(variables, built.experiment.evaluations["test"])
    scale = float(np.std(train.a.read(np.arange(len(train))), dtype=np.float64))
    noisy = evals.latent_noise(test.a.read(np.arange(len(test))), 1.0, 0, scale=scale)
    a = built.evaluator.embed_side("a", variables, [(noisy, np.ones(len(noisy), bool))])
    expected = evals.recall_metrics(dataclasses.replace(clean, a=a))
    rows = analyse(built, variables)["stress"]
    row = next(row for row in rows if (row["side"], row["strength"]) == ("a", 1.0))
    assert row["metrics"] == pytest.approx(expected)


def test_inputs_of_maps_and_galleries(untrained):
    built, variables = untrained
    found = embedding_arrays(SeedModels(built, [variables]), perplexities=(5, 500), pairs=8, depth=3)
    assert found["top"].shape == (20, 3)
    assert found["map_5_a"].shape == found["map_5_before_b"].shape == (8, 2)
    assert "map_500_a" not in found
    own = np.asarray(found["b_to_a"])
    np.testing.assert_array_equal(found["top"][:, 0] == own, found["rank_ba"] == 0)
    assert found["captions"][0].startswith("caption <")
    assert all(array.dtype != object for array in found.values())
    # The variables are those before training, so the maps of both moments are the same.
    np.testing.assert_array_equal(found["map_5_a"], found["map_5_before_a"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature.init": 0.1}, 0.1),
        ({"temperature.learned": False, "temperature.init": 0.2}, 0.2),
        ({"temperature.schedule": "cosine", "temperature.min_shift": 0.1, "temperature.max_shift": 0.3}, 0.2),
        ({"temperature.schedule": "mm_ts", "temperature.min_shift": 0.1, "temperature.max_shift": 0.3}, 0.2),
        ({"loss.name": "max_margin"}, None),
    ],
)
def test_the_temperature_of_training(embeddings, changes, expected):
    config = frozen(embeddings, **changes)
    params = {"x": {"log_temperature": np.log(0.1)}} if config.temperature.init == 0.1 else {}
    found = softmax_temperature(config, params, np.array([1.0, 1.0, 3.0, 3.0]))
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_loss_without_softmax_is_calibrated_on_val_alone(embeddings):
    built = build(frozen(embeddings, "mm_ts_margin"))
    found = analyse(built, evaluation_variables(initial_state(built.experiment)), stress="none")
    assert list(found["calibration"]) == ["fitted"]


def test_mismatched_pairs_are_in_training_alone(embeddings):
    clean = build(frozen(embeddings))
    wrong = build(frozen(embeddings, **{"input.mismatched": 0.5}))
    train, other = clean.splits["train"], wrong.splits["train"]
    assert (train.b_to_a != other.b_to_a).mean() == 0.5
    for name in ("val", "test"):
        np.testing.assert_array_equal(clean.splits[name].b_to_a, wrong.splits[name].b_to_a)
    with pytest.raises(ConfigError, match=r"input\.mismatched.*0\.5"):
        build(frozen(embeddings, **{"input.mismatched": 0.7}))


def test_both_sets_of_strengths_know_every_noise():
    assert set(QUICK) == set(FULL)
    for strengths in (*QUICK.values(), *FULL.values()):
        assert strengths == tuple(sorted(set(strengths)))
        assert strengths[0] > 0


@pytest.mark.slow
def test_pixels_and_words_are_disturbed(repository):
    config = configs.default()
    config.data = "synthetic:train=24,val=8,test=8,size=16"
    config.train.devices = 1
    config.input.image_size = 16
    config.input.vocab_size = 300
    config.model = configs.two_tower("convnet", "lstm")
    config.model.encoder_a.widths = (8,)
    config.model.encoder_b.width = 8
    built = build(config)
    found = analyse(built, evaluation_variables(initial_state(built.experiment)))
    kinds = {row["kind"] for row in found["stress"]} - {"clean"}
    assert kinds == set(QUICK) - {"latent_noise"}
    assert found["long_tail"]["borders"][1] >= 1
    assert jax.tree.all(jax.tree.map(lambda x: x is None or np.isfinite(x), found["retained"]))


@pytest.mark.slow
def test_a_classifier_has_a_balance(recordings):
    config = configs.default()
    config.data = f"av:{recordings}"
    config.train.devices = 1
    config.model = configs.fusion_classifier()
    config.model.encoder_a.widths = config.model.encoder_b.widths = (8,)
    config.audio.update({"sample_rate": 8000, "seconds": 0.2, "bands": 16})
    config.input.image_size = 16
    config.eval.metric = "val/accuracy"
    built = build(config)
    found = analyse(built, evaluation_variables(initial_state(built.experiment)))
    assert set(found) == {"balance"}
    assert found["balance"]["gap"] >= 0
    config.input.mismatched = 0.1
    with pytest.raises(ConfigError, match=r"input\.mismatched"):
        build(config)
