"""Runs that start from the closed form (CCA)."""

import json

import jax
import numpy as np
import pytest

from alignment_jax import baselines, evals
from alignment_jax import config as configs
from alignment_jax.assembly import training_moments
from alignment_jax.assembly.build import build
from alignment_jax.baselines import device_moments
from alignment_jax.core.errors import ConfigError
from alignment_jax.losses import l2_normalize
from alignment_jax.train.device_data_set import look_up
from alignment_jax.train.evaluation import Embedder
from alignment_jax.train.loop import evaluation_variables, fit, initial_state


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """60 items with two views and two captions each."""
    rng = np.random.default_rng(0)
    code, owner = rng.normal(size=(60, 6)), np.repeat(np.arange(60), 2)
    to_a, to_b = rng.normal(size=(6, 12)), rng.normal(size=(6, 10))
    arrays = {
        "image": code @ to_a + 0.5 * rng.normal(size=(60, 12)),
        "image_flip": code @ to_a + 0.5 * rng.normal(size=(60, 12)),
        "text": code[owner] @ to_b + 0.5 * rng.normal(size=(120, 10)),
        "text_to_image": owner,
        "split": np.array((["train"] * 4 + ["val", "test"]) * 10),
    }
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    np.savez(path, **arrays)
    return path


def make_config(latents, **changes):
    config = configs.default()
    config.data = f"embeddings:{latents}"
    config.model.dim, config.model.blocks_a, config.model.blocks_b = 8, 0, 0
    config.model.final_norm, config.model.input_norm = False, "l2"
    config.init.name = "cca"
    config.train.devices, config.input.batch_size = 1, 8
    config.eval.views, config.train.duration = "mean", "0 steps"
    config.update_from_flattened_dict(changes)
    return config


def in_closed_form(latents, split, **settings):
    """Embeddings of a split by `fit_cca` itself, fitted to the training pairs."""
    with np.load(latents) as found:
        a, flip, b, owner, names = (found[k] for k in ("image", "image_flip", "text", "text_to_image", "split"))
    a, flip, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, flip, b))
    train = np.flatnonzero(names == "train")
    pairs = np.flatnonzero(names[owner] == "train")
    views = np.stack([a, flip])
    project_a, project_b = baselines.fit_cca(views[:, owner[pairs]], b[pairs], **settings)
    assert len(train) * 2 == len(pairs)
    chosen = np.flatnonzero(names == split)
    captions = np.flatnonzero(names[owner] == split)
    za = evals.mean_direction([np.asarray(l2_normalize(project_a(view[chosen]))) for view in views])
    return evals.SplitEmbeddings(
        za, np.asarray(l2_normalize(project_b(b[captions]))), np.repeat(np.arange(len(chosen)), 2)
    )


@pytest.mark.slow
def test_a_run_without_a_step_is_the_closed_form(latents, tmp_path):
    config = make_config(latents, **{"init.shrinkage": "0.4+0.2", "init.dim": "5", "init.power": "0.5"})
    experiment = build(config).experiment
    finished = fit(experiment, tmp_path, quiet=True)
    found = Embedder(experiment.model)(finished.variables, experiment.evaluations["test"])
    expected = in_closed_form(latents, "test", shrinkage=(0.4, 0.2), dim=5, power=0.5)
    np.testing.assert_allclose(found.a @ found.b.T, expected.a @ expected.b.T, atol=2e-5)
    np.testing.assert_array_equal(found.b_to_a, expected.b_to_a)
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert (row["step"], finished.position.best_step) == (0, 0)
    val = in_closed_form(latents, "val", shrinkage=(0.4, 0.2), dim=5, power=0.5)
    assert row["val/rsum"] == pytest.approx(evals.recall_metrics(val)["rsum"])
    log = (tmp_path / "log.txt").read_text()
    assert all(part in log for part in ("0.4 (image)", "0.2 (text)", "5 dimensions", "power 0.5"))


@pytest.mark.parametrize("changes", [{"init.shrinkage": "0.4+0.2", "init.dim": "5"}, {}])
def test_many_pairs_are_summed_on_the_devices(changes, latents, monkeypatch):
    def start():
        experiment = build(make_config(latents, **{"train.devices": 4, **changes})).experiment
        return experiment.messages, initial_state(experiment).params

    messages, few = start()
    monkeypatch.setattr(training_moments, "MAX_TRAINING_ITEMS", 10)
    monkeypatch.setattr(device_moments, "CHUNK", 16)
    found, many = start()
    assert found == messages
    # Float32 moments are off by 1e-7 of their size; shrunk covariances have eigenvalues of similar size.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), many, few)


@pytest.mark.slow
def test_the_same_run_again_changes_nothing(latents, tmp_path):
    config = make_config(latents, **{"init.shrinkage": "0.4", "init.dim": "5"})
    first = fit(build(config).experiment, tmp_path, quiet=True)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = fit(build(config).experiment, tmp_path, quiet=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert again.position.best_value == first.position.best_value


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["cosine", "weighted_cosine"])
def test_auto_settings_are_chosen_on_val_and_logged(similarity, latents):
    changes = {"init.shrinkage": "auto", "init.power": "auto", "init.similarity": similarity}
    built = build(make_config(latents, **changes))
    (line,) = built.experiment.messages
    assert " 32 " in line  # 4 x 4 shrinkages, one dim, two powers
    assert line in built.notes
    found = evals.recall_metrics(
        Embedder(built.experiment.model)(
            evaluation_variables(initial_state(built.experiment)), built.experiment.evaluations["val"]
        )
    )
    assert f"rsum {found['rsum']:.1f} on val" in line


@pytest.mark.slow
def test_a_weighted_cosine_weighs_after_the_normalization(latents):
    changes = {"init.shrinkage": "0.4", "init.dim": "5", "init.similarity": "weighted_cosine", "eval.views": "first"}
    experiment = build(make_config(latents, **changes)).experiment
    variables = evaluation_variables(initial_state(experiment))
    found = Embedder(experiment.model)(variables, experiment.evaluations["test"])
    with np.load(latents) as arrays:
        image, text, owner, split = (arrays[name] for name in ("image", "text", "text_to_image", "split"))
        views = np.stack([image, arrays["image_flip"]])
    views, text = (z / np.linalg.norm(z, axis=-1, keepdims=True) for z in (views, text))
    pairs, test = np.flatnonzero(split[owner] == "train"), split == "test"
    maps = baselines.fit_cca(views[:, owner[pairs]], text[pairs], shrinkage=0.4, dim=5, power=0.0)
    x, y = (l2_normalize(project(z)) for project, z in zip(maps, (views[0][test], text[test[owner]]), strict=True))
    rho = maps[0].correlations
    # Five products of numbers below 1, of which the maps have rounded terms from 12 latents.
    np.testing.assert_allclose(found.a @ found.b.T, (x * rho) @ y.T / rho[0], rtol=0, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found.b, axis=1), 1.0, atol=1e-6)
    # Training leaves the weights alone.
    changes |= {"train.duration": "2 steps", "init.shrinkage": "0.6"}
    experiment = build(make_config(latents, **changes)).experiment
    state = initial_state(experiment)
    batch = next(iter(experiment.batches(np.arange(8)[None], 0, 0)))
    (batch,) = [look_up(experiment.tables, batch)]

    def loss(params):
        return experiment.objective(
            experiment.model.apply, params, {}, (), batch, step=0, key=state.key, axis_name=None
        )[0]

    gradient = jax.jit(jax.grad(loss))(state.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.any(gradient["cosine_weights"])
    assert np.any(gradient["a"]["project"]["kernel"])


@pytest.mark.slow
def test_training_continues_from_the_closed_form(latents, tmp_path):
    changes = {"init.shrinkage": "0.4", "init.dim": "5", "train.duration": "2 steps", "optimizer.learning_rate": 0.0}
    finished = fit(build(make_config(latents, **changes)).experiment, tmp_path, quiet=True)
    assert (finished.position.step, finished.position.best_step) == (2, 0)  # nothing learned: the start stays best


@pytest.mark.slow
def test_views_are_averaged_or_not(latents):
    config = make_config(latents, **{"init.shrinkage": "0.4", "init.dim": "5"})
    config.eval.views = "first"
    assert build(config).experiment.evaluations["test"].views_a == ()
    config.eval.views = "all"
    with pytest.raises(ConfigError, match=r"eval\.views"):
        build(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init.name": "pca"}, r"init\.name"),
        ({"init.shrinkage": "much"}, r"init\.shrinkage is 'much'"),
        ({"init.shrinkage": "2.0", "init.dim": "4"}, "shrinkage must be in"),
        ({"init.dim": "0"}, r"init\.dim is '0'"),
        ({"init.dim": "2.5"}, r"init\.dim is '2.5'"),
        ({"model.final_norm": True}, r"model\.final_norm"),
        ({"model.blocks_a": 1, "model.zero_init": False}, r"model\.zero_init"),
        ({"init.name": "random"}, r"train\.duration"),
        ({"init.similarity": "dot"}, r"init\.similarity"),
        (
            {"init.name": "random", "init.similarity": "weighted_cosine", "train.duration": "1 steps"},
            r"init\.similarity",
        ),
    ],
)
def test_settings_without_a_closed_form_are_refused(changes, message, latents):
    with pytest.raises(ConfigError, match=message):
        build(make_config(latents, **changes))


@pytest.mark.slow
def test_the_start_is_a_candidate_also_where_only_the_end_is_evaluated(latents, tmp_path):
    config = make_config(
        latents, **{"train.duration": "3 steps", "eval.interval": "0 steps", "log.interval": "1 steps"}
    )
    fit(build(config).experiment, tmp_path, quiet=True, tensorboard=False)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val/rsum" in row] == [0, 3]
