"""Extreme numbers: the run reports the cause, and logs no NaN."""

import json

import jax
import numpy as np
import pytest
from small_runs import load_config, write_run

from alignment_jax.assembly.build import build
from alignment_jax.cli.main import main
from alignment_jax.config import default
from alignment_jax.config.recipes import apply_methods
from alignment_jax.train.loop import fit


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def small(path, methods="baseline", **changes):
    config = default()
    config.data = f"embeddings:{path}"
    apply_methods(config, methods)
    config.model.dim = 8
    config.input.batch_size = 8
    config.train.devices, config.train.duration = 1, "2 epochs"
    config.log.interval, config.eval.interval = "1 steps", "5 steps"
    config.clusters.count = 4
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    write_run(folder, "alignment")
    return folder / "alignment.npz"


@pytest.mark.slow
def test_collapsed_embeddings_are_measured_and_named(tmp_path, pairs):
    with np.load(pairs) as found:
        arrays = {name: found[name] for name in found.files}
    arrays["text"] = np.tile(arrays["text"][:1], (len(arrays["text"]), 1))
    np.savez(tmp_path / "same.npz", **arrays)
    fit(build(small(tmp_path / "same.npz")).experiment, tmp_path / "w", quiet=True, tensorboard=False)
    last = rows_of(tmp_path / "w")[-1]
    assert last["val/variance_b"] < 1e-6 < 0.1 < last["val/variance_a"]
    assert last["val/participation_b"] < 1.05 < last["val/participation_a"]
    # The entropy form decomposes a matrix: only the last evaluation has it.
    assert last["val/effective_rank_b"] < 1.5 < last["val/effective_rank_a"]
    assert sum("val/effective_rank_a" in row for row in rows_of(tmp_path / "w")) == 1
    assert all(np.isfinite(value) for row in rows_of(tmp_path / "w") for value in row.values())
    log = (tmp_path / "w" / "log.txt").read_text()
    assert log.count("text have collapsed") == 1


@pytest.mark.slow
def test_a_temperature_that_learns_to_its_bound_stays_there(tmp_path, pairs):
    changes = {"optimizer.learning_rate": 1.0, "temperature.min": 0.05, "temperature.max": 0.08}
    fit(build(small(pairs, **changes)).experiment, tmp_path, quiet=True, tensorboard=False)
    reached = [row["train/temperature_mean"] for row in rows_of(tmp_path)]
    assert min(abs(value - bound) for value in reached for bound in (0.05, 0.08)) < 1e-6
    assert all(0.05 - 1e-6 <= value <= 0.08 + 1e-6 for value in reached)
    assert all(np.isfinite(value) for row in rows_of(tmp_path) for value in row.values())


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e4, 1e30])
def test_latents_of_any_size_train_or_are_refused(scale, tmp_path, pairs, capsys):
    with np.load(pairs) as found:
        arrays = {name: found[name] for name in found.files}
    for name in ("image", "text"):
        arrays[name] = (arrays[name] * scale).astype(np.float32)
    np.savez(tmp_path / "alignment.npz", **arrays)
    arguments = write_run(tmp_path / "made", "alignment", epochs=2)
    config = arguments[2].partition(":")[0]
    command = ["train", "--config", f"{config}:embeddings:{tmp_path / 'alignment.npz'}", "--workdir"]
    status = main([*command, str(tmp_path / "w"), "--quiet", "--config.train.devices=1"])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if 1e-12 < scale < 1e12:
        assert status == 0
        assert all("non_finite" not in row for row in rows_of(tmp_path / "w"))
    else:  # numbers whose squares overflow float32 cannot be normalized: an error of one line, before training
        assert status == 2
        assert "whose squares leave float32" in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("methods", ["all", "vals+mm_ts_margin+curriculum", "sigmoid+noise", "baseline"])
def test_no_step_makes_a_nan_on_the_way(methods, tmp_path, pairs):
    """JAX's own check of every intermediate result that leaves a compiled function."""
    config = small(pairs, methods, **{"train.duration": "6 steps", "input.resident": "off"})
    with jax.debug_nans(True):
        fit(build(config).experiment, tmp_path, quiet=True, tensorboard=False)
    assert len(rows_of(tmp_path)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("scores", ["fresh", "recycled"])
def test_no_step_of_a_classifier_makes_a_nan_on_the_way(scores, tmp_path):
    config = load_config(tmp_path, "classification", epochs=2)
    config.train.devices, config.sampling.scores = 1, scores
    with jax.debug_nans(True):
        fit(build(config).experiment, tmp_path / "w", quiet=True, tensorboard=False)
    assert rows_of(tmp_path / "w")
