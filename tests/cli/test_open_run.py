"""A finished run opens from its folder alone: by any path, without its data or the names its config registered."""

import json
import os
import pathlib

import numpy as np
import pytest
from cli_runs import FAST, write_embeddings

from alignment_jax import data
from alignment_jax.assembly.methods import LOSSES, Loss
from alignment_jax.cli.main import main
from alignment_jax.core.errors import DataError, UserError
from alignment_jax.inference.trained_model import load_trained, open_run, open_source
from alignment_jax.train.loop import fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory, repository):
    """(folder, the data's file) of a run of two steps whose loss is registered for as long as it trains."""
    folder = tmp_path_factory.mktemp("opened")
    file = write_embeddings(folder / "pairs.npz")
    LOSSES["own"] = Loss(LOSSES["max_margin"].pair_loss, "margin")
    config = f"{repository}/configs/flickr8k_frozen.py:method=baseline,data=embeddings:{file}"
    command = ["train", "--config", config, "--workdir", str(folder / "run"), *FAST, "--config.loss.name=own"]
    try:
        assert main([*command, "--config.train.duration=2 steps", "--config.report.gallery=0"]) == 0
    finally:
        del LOSSES["own"]
    return folder / "run", file


PATHS = {
    "relative text": lambda folder: folder.name,
    "relative path": lambda folder: pathlib.Path(folder.name),
    "absolute text": str,
    "os.PathLike": lambda folder: Named(folder),
    "home": lambda folder: f"~/{folder.name}",
}


class Named(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_run_is_opened_by_any_path(path, run, monkeypatch):
    workdir, _ = run
    monkeypatch.chdir(workdir.parent)
    monkeypatch.setenv("HOME", str(workdir.parent))
    given = path(workdir)
    assert open_run(given).step == 2
    config, source = open_source(given, None)
    assert load_trained(given, config, source).step == 2


def test_its_data_need_not_be_there(run, tmp_path):
    workdir, file = run
    split = data.load(f"embeddings:{file}").splits["test"]
    config, source = open_source(workdir, None)
    expected = load_trained(workdir, config, source)
    moved = file.rename(tmp_path / "moved.npz")
    try:
        trained = open_run(workdir)
        np.testing.assert_array_equal(trained.embed(split).a, expected.embed(split).a)
        assert trained.evaluate(split) == expected.evaluate(split)
    finally:
        moved.rename(file)


def test_a_run_without_hints_asks_its_data(run, tmp_path):
    workdir, _ = run
    path = workdir / "inputs.json"
    kept = path.read_text()
    found = json.loads(kept)
    del found["hints"]
    path.write_text(json.dumps(found))
    try:
        assert open_run(workdir).step == 2
    finally:
        path.write_text(kept)


def test_other_items_than_it_was_trained_on_are_named(run):
    split = data.PairSplit(
        a=data.ArrayColumn(np.ones((3, 5), np.float32)),
        b=data.ArrayColumn(np.ones((3, 10), np.float32)),
        b_to_a=np.arange(3),
        ids=np.array(list("xyz")),
    )
    trained = open_run(run[0])
    for use in (trained.embed, trained.evaluate):
        with pytest.raises(DataError, match=r"\ba .*\[5\].*\[12\]"):
            use(split)


def test_a_folder_without_a_run_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        open_run("nothing")


def test_a_run_by_hand_may_have_a_relative_workdir(embeddings, tmp_path, monkeypatch):
    from alignment_jax import config as configs
    from alignment_jax.assembly.build import build

    config = configs.default()
    config.data, config.model.dim, config.train.devices = f"embeddings:{embeddings}", 8, 1
    config.model.blocks_a = config.model.blocks_b = 0
    config.train.duration, config.log.tensorboard = "1 steps", False
    monkeypatch.chdir(tmp_path)
    experiment = build(config).experiment
    first = fit(experiment, pathlib.Path("run"), quiet=True)
    assert fit(experiment, pathlib.Path("run"), quiet=True).position == first.position
