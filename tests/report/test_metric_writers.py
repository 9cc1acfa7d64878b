"""Writers of metrics: an entry of METRIC_WRITERS gets the rows of metrics.jsonl; W&B offline."""

import json
import time

import numpy as np
import pytest

from alignment_jax import report
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.metrics_writer import MetricsWriter


class Recorder:
    def __init__(self, opened):
        self.opened, self.rows, self.closed = opened, [], False

    def write_scalars(self, step, scalars):
        self.rows.append({"step": step, **scalars})

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.mark.slow
def test_a_setting_turns_an_entry_on(tmp_path, embeddings, repository, monkeypatch):
    """`log.wandb` with another function in its entry: the command passes its rows on."""
    made = []

    def open_recorder(workdir, config, resume_step):
        made.append(Recorder((workdir, config["name"], resume_step)))
        return made[-1]

    monkeypatch.setitem(report.METRIC_WRITERS, "wandb", open_recorder)
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{embeddings}"
    options = ["--config.log.wandb=True", "--config.log.tensorboard=False", "--config.train.duration=2 steps"]
    options += ["--config.train.devices=1", "--config.input.batch_size=16", "--config.report.gallery=0", "--quiet"]
    assert main(["train", "--config", config, "--workdir", str(tmp_path / "w"), *options]) == 0
    (writer,) = made
    name = json.loads((tmp_path / "w" / "config.json").read_text())["name"]
    assert writer.opened == (tmp_path / "w", name, -1)
    assert writer.closed
    rows = report.read_metrics(tmp_path / "w" / "metrics.jsonl")
    assert [{key: value for key, value in row.items() if key != "epoch"} for row in rows] == writer.rows
    assert not (tmp_path / "w" / "tensorboard").exists()


def test_a_writer_that_cannot_be_opened_closes_the_others(tmp_path, monkeypatch):
    first = Recorder(None)

    def fail(workdir, config, resume_step):
        raise ConfigError("log.second: no login")

    monkeypatch.setitem(report.METRIC_WRITERS, "first", lambda *_: first)
    monkeypatch.setitem(report.METRIC_WRITERS, "second", fail)
    with pytest.raises(ConfigError, match="second"):
        MetricsWriter(tmp_path, resume_step=-1, primary=True, writers=["first", "second"])
    assert first.closed


def test_an_unknown_writer_is_named():
    with pytest.raises(ConfigError, match=r"log\.wandbb.*wandb"):
        report.writers_of({"interval": "10 steps", "wandbb": True})


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = {"name": "pairs, small: 1/2", "train": {"duration": "2 steps"}}
    for resume_step, step in ((-1, 1), (1, 2)):
        with MetricsWriter(tmp_path, resume_step=resume_step, primary=True, writers=["wandb"], config=config) as writer:
            writer.write(step, {"train/loss": np.float32(2.5), "val/rsum": float("nan")}, epoch=0)
    identity = (tmp_path / "wandb_id.txt").read_text()
    written = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{identity}.wandb"))
    assert len(written) == 2
    words = (b"train/loss", b"val/rsum", b"pairs-small-1-2", b"2 steps")
    for path in written:  # a process of W&B writes the file; on a busy machine after `finish` has returned
        deadline = time.monotonic() + 60
        while not all(word in path.read_bytes() for word in words):
            assert time.monotonic() < deadline, path.read_bytes()
            time.sleep(0.1)
