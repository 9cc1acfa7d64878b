"""Work that a comparison does once: closed forms, clusters, compiled steps, embeddings; planning under its lock."""

import contextlib
import json

import jax
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly import cca_start as initial
from alignment_jax.assembly import cluster_sizes as clusters
from alignment_jax.assembly.build import build, with_seed
from alignment_jax.compare import engine, training
from alignment_jax.compare import paired_differences as paired
from alignment_jax.compare import run_records as records
from alignment_jax.compare.plan import ComparisonSettings
from alignment_jax.core.jsonl import read_rows
from alignment_jax.core.memoize import remember
from alignment_jax.train.evaluation import Embedder
from alignment_jax.train.vmapped_seeds import fit_seeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


def base_config(embeddings):
    config = configs.default()
    config.data = f"embeddings:{embeddings}"
    config.model.dim, config.input.batch_size, config.train.devices = 8, 16, 1
    config.model.blocks_a = config.model.blocks_b = 0
    config.model.final_norm = False
    config.train.duration, config.eval.interval = "4 epochs", "2 epochs"
    return config


def wanted(embeddings, *methods, seeds=2, hubness="none"):
    base = base_config(embeddings)
    base.eval.hubness = hubness

    def config_of(method):
        config = base.copy_and_resolve_references()
        configs.apply_methods(config, "" if method == "baseline" else method)
        return config

    return ComparisonSettings(base, config_of, methods, "baseline", seeds, stress="quick")


@contextlib.contextmanager
def calls_of(monkeypatch, owner, name):
    """Counts the calls of a function by their results."""
    found, function = [], getattr(owner, name)

    def counted(*arguments, **options):
        found.append(function(*arguments, **options))
        return found[-1]

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield found


def test_a_closed_form_is_chosen_and_measured_once_and_recorded_for_each_seed(tmp_path, embeddings, monkeypatch):
    with (
        calls_of(monkeypatch, initial, "_fit") as fitted,
        calls_of(monkeypatch, training, "analyse_models") as analysed,
    ):
        settings = wanted(embeddings, "baseline", "cca", seeds=3, hubness="nnn:k=5")
        engine.compare(tmp_path, settings, environment={}, quiet=True)
    assert len(fitted) == 1
    assert [len(models) for models in analysed] == [3, 1]  # the baseline's seeds differ, the closed form's do not
    runs = read_rows(tmp_path / records.RUNS)
    closed = [run for run in runs if run["method"] == "cca"]
    assert [run["seed"] for run in closed] == [0, 1, 2]
    assert all((run["test"], run["analysis"]) == (closed[0]["test"], closed[0]["analysis"]) for run in closed)
    trained = [run["analysis"] for run in runs if run["method"] == "baseline"]
    assert trained[0] != trained[1]
    assert all((tmp_path / run[name]).is_file() for run in runs for name in ("history", "items"))
    assert [bool(run["embeddings"]) for run in runs] == [True, False, False] * 2  # pictures of one seed
    assert {run["hubness"] for run in runs} == {"nnn:k=5,strength=0.5"}
    summary = json.loads((tmp_path / "results.json").read_text())["summary"]
    corrected = [row["metrics"]["corrected/rsum"]["mean"] for row in summary]
    assert summary[1]["corrected"]["difference"] == pytest.approx(corrected[1] - corrected[0])
    assert "nnn:k=5,strength=0.5" in (tmp_path / "report.html").read_text()


def test_clusters_are_found_once_for_training_and_for_all_that_is_analysed(tmp_path, embeddings, monkeypatch):
    with calls_of(monkeypatch, data, "cluster_sizes") as found:
        monkeypatch.setattr(clusters, "_cluster_sizes", remember(entries=8)(data.cluster_sizes))
        engine.compare(tmp_path, wanted(embeddings, "baseline", "mm_ts"), environment={}, quiet=True)
    assert len(found) == 1


def test_another_command_that_finishes_first_is_not_repeated_nor_forgotten(tmp_path, embeddings, monkeypatch):
    """Two commands plan at the same time; the second gets the lock when the first is done."""
    locked, first = engine.locked, []

    @contextlib.contextmanager
    def first_come(folder):
        if not first:
            first.append(True)
            engine.compare(folder, wanted(embeddings, "baseline", "smoothing"), environment={}, quiet=True)
        with locked(folder):
            yield

    with monkeypatch.context() as patch:
        patch.setattr(engine, "locked", first_come)
        engine.compare(tmp_path, wanted(embeddings, "baseline", "cca"), environment={}, quiet=True)
    runs = [(run["method"], run["seed"]) for run in read_rows(tmp_path / records.RUNS)]
    assert sorted(runs) == [(method, seed) for method in ("baseline", "cca", "smoothing") for seed in (0, 1)]
    about = json.loads((tmp_path / records.COMPARISON).read_text())
    assert (about["complete"], about["methods"]) == (True, ["baseline", "smoothing", "cca"])


def test_all_seeds_share_one_compiled_step_and_one_compiled_evaluation(embeddings):
    built = build(base_config(embeddings))
    with jax.log_compiles(), compilations() as names:
        fit_seeds([with_seed(built, seed).experiment for seed in range(3)])
    assert names.count("jit(run)") == 1
    assert names.count("jit(measure_seeds)") == 1


@contextlib.contextmanager
def compilations():
    import logging
    import re

    found = []

    class Names(logging.Handler):
        def emit(self, record):
            if match := re.match(r"Compiling (\S+)", record.getMessage()):
                found.append(match[1])

    handler, logger = Names(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def test_evaluations_of_all_seeds_are_those_of_each(embeddings):
    """Latents on the device, batches from the host, and one seed alone: the same numbers."""
    import dataclasses

    built = build(base_config(embeddings))
    split = built.experiment.evaluations["val"]
    assert split.latents is not None
    each = [dict(zip(("params", "model_state"), start(built, seed), strict=True)) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    together = built.experiment.evaluate_seeds_for_log(stacked, split, False)
    batched = built.experiment.evaluate_seeds_for_log(stacked, dataclasses.replace(split, latents=None), False)
    for variables, found, other in zip(each, together, batched, strict=True):
        alone = built.experiment.evaluate_for_log(jax.device_put(variables), split, False)
        assert alone.keys() == found.keys() == other.keys()
        assert found == pytest.approx(alone, rel=1e-5)
        assert other == pytest.approx(alone, rel=1e-5)
    assert together[0]["participation_a"] != together[1]["participation_a"]


def start(built, seed):
    return built.experiment.model.init(jax.random.key(seed), *built.experiment.first_batch)


def test_a_finished_training_embeds_every_split_once(tmp_path, embeddings, monkeypatch, repository):
    from alignment_jax.cli.main import main

    config = f"{repository}/configs/flickr8k_frozen.py:data=embeddings:{embeddings}"
    with calls_of(monkeypatch, Embedder, "__call__") as embedded:
        assert main(["train", "--config", config, "--workdir", str(tmp_path), "--quiet"]) == 0
    # The closed form is evaluated at its start with the effective rank, then val and test for results and gallery.
    assert len(embedded) == 3


def test_cached_draws_of_items_equal_those_that_are_not_cached(monkeypatch):
    state = np.random.default_rng(3)
    kept = np.concatenate(list(paired._item_draws(state, 40, 500)))
    monkeypatch.setattr(paired, "_LARGEST_CACHED", 0)
    drawn = np.concatenate(list(paired._item_draws(np.random.default_rng(3), 40, 500)))
    np.testing.assert_array_equal(kept, drawn)
    assert (kept.sum(axis=1) == 40).all()
