"""A run that starts from another run, and a finished run that trains longer."""

import json
import shutil

import pytest
from cli_runs import FAST, write_embeddings

from alignment_jax.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

PLAIN = ["--config.optimizer.schedule=constant", "--config.optimizer.warmup=0 steps", "--config.eval.interval=4 steps"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, repository):
    """(workdir, workdir -> the command that makes it without its duration) of a finished run of 4 steps."""
    folder = tmp_path_factory.mktemp("longer_runs")
    path = write_embeddings(folder / "pairs.npz")
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{path}"

    def command(workdir, *more):
        return [
            "train",
            "--config",
            config,
            "--workdir",
            str(workdir),
            *FAST,
            *PLAIN,
            "--config.model.dim=8",
            "--config.model.blocks_a=1",
            *more,
        ]

    assert main(command(folder / "run", "--config.train.duration=4 steps")) == 0
    return folder / "run", command


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_time(row):
    return {name: value for name, value in row.items() if name not in ("time", "seconds")}


def test_a_finished_run_can_train_longer_but_not_shorter(run, tmp_path, capsys):
    first, command = run
    workdir = tmp_path / "longer"
    shutil.copytree(first, workdir)
    assert main(command(workdir, "--config.train.duration=3 steps")) == 2
    assert "train.duration is '3 steps'" in capsys.readouterr().err
    assert main(command(workdir, "--config.train.duration=8 steps", "--config.model.dim=9")) == 2
    assert "model.dim: 8 -> 9" in capsys.readouterr().err
    assert main(command(workdir, "--config.train.duration=8 steps")) == 0
    assert "step 4 to 8" in (workdir / "log.txt").read_text()
    whole = tmp_path / "whole"
    assert main(command(whole, "--config.train.duration=8 steps")) == 0
    # Nothing is scheduled, so it ends as if it had been that long from the start.
    assert without_time(rows(workdir)[-1]) == without_time(rows(whole)[-1])
    assert (workdir / "results-4.json").read_bytes() == (first / "results.json").read_bytes()
    assert (workdir / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    capsys.readouterr()
    assert main(command(workdir, "--config.train.duration=8 steps")) == 0
    assert "from step" not in capsys.readouterr().out


def test_a_run_that_stopped_early_has_its_patience_again(run, tmp_path, capsys):
    _, command = run
    stuck = ["--config.optimizer.learning_rate=0.0", "--config.eval.interval=1 steps", "--config.eval.patience=1"]
    for duration, stops in (("4 steps", 2), ("8 steps", 3)):
        assert main(command(tmp_path / "w", *stuck, f"--config.train.duration={duration}")) == 0
        assert f"stopped early at step {stops}" in (tmp_path / "w" / "log.txt").read_text()


def test_an_unfinished_run_is_not_made_longer(run, tmp_path, capsys):
    first, command = run
    workdir = tmp_path / "unfinished"
    shutil.copytree(first, workdir)
    (workdir / "results.json").unlink()
    assert main(command(workdir, "--config.train.duration=8 steps")) == 2
    assert "train.duration can be raised" in capsys.readouterr().err


def test_a_run_starts_from_the_best_of_another_as_far_as_it_fits(run, tmp_path, capsys):
    first, command = run
    start = f"--config.init.name=run:{first}"
    assert main(command(tmp_path / "same", start, "--config.train.duration=0 steps")) == 0
    assert json.loads((tmp_path / "same" / "results.json").read_text()) == json.loads(
        (first / "results.json").read_text()
    )
    other = command(tmp_path / "other", start, "--config.train.duration=1 steps", "--config.model.dim=6")
    assert main(other) == 0
    said = (tmp_path / "other" / "log.txt").read_text()
    assert "params/a/project/kernel [" in said
    assert "8] there, " in said
    assert "did not fit" in said
    shutil.move(first, tmp_path / "gone")
    try:
        assert main(other) == 0  # it resumes from its own checkpoints
    finally:
        shutil.move(tmp_path / "gone", first)


def test_a_start_from_no_run_or_a_damaged_run_is_an_error(run, tmp_path, capsys):
    first, command = run
    damaged = tmp_path / "damaged"
    shutil.copytree(first, damaged)
    for file in damaged.glob("checkpoints/best/*/state/**/*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    for folder, status, part in (
        (tmp_path / "nothing", 2, "nothing"),
        ("", 2, "init.name"),
        (damaged, 1, "damaged"),
    ):
        assert main(command(tmp_path / "w", f"--config.init.name=run:{folder}")) == status
        shown = capsys.readouterr().err
        assert part in shown
        assert shown.count("\n") == 1
    assert not (tmp_path / "w").exists()
