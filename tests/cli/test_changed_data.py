"""A run and its data belong together, and a mistake in a setting does not cost the workdir."""

import json

import pytest
from cli_runs import FAST, write_embeddings

from alignment_jax.cli.main import main


@pytest.fixture
def run(tmp_path, repository):
    """(data, workdir, command) of a run of two steps."""
    path, workdir = write_embeddings(tmp_path / "t.npz"), tmp_path / "run"
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{path}"
    command = ["train", "--config", config, "--workdir", str(workdir), *FAST, "--config.train.duration=2 steps"]
    assert main(command) == 0
    return path, workdir, command


def everything(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"}


def test_other_data_under_the_same_name_is_refused_and_nothing_is_touched(run, capsys):
    path, workdir, command = run
    before = everything(workdir)
    write_embeddings(path, seed=1)
    assert main(command) == 2
    assert "test, train, val changed since the run" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(workdir)]) == 2
    assert "test, train, val changed since the run" in capsys.readouterr().err
    assert everything(workdir) == before
    write_embeddings(path)
    assert main(command) == 0
    assert main(["evaluate", "--workdir", str(workdir), "--data", f"embeddings:{path}", "--split", "test"]) == 0


def test_a_resumed_run_keeps_the_environment_that_it_began_in(run):
    _, workdir, command = run
    (workdir / "environment.json").write_text(json.dumps({"jax": "of then"}))
    assert main(command) == 0
    assert json.loads((workdir / "environment.json").read_text()) == {"jax": "of then"}


def test_a_lost_record_of_what_the_model_reads_is_written_anew(run, capsys):
    _, workdir, command = run
    (workdir / "inputs.json").write_text("{}")
    assert main(["evaluate", "--workdir", str(workdir)]) == 1
    assert "it lacks a side" in capsys.readouterr().err
    assert main(command) == 0
    assert main(["evaluate", "--workdir", str(workdir)]) == 0


def test_a_mistake_is_corrected_in_the_same_workdir(run, tmp_path, capsys):
    _, _, command = run
    command = [word if word != str(tmp_path / "run") else str(tmp_path / "second") for word in command]
    assert main([*command, "--config.eval.metric=val/rsumm"]) == 2
    assert "did you mean 'val/rsum'" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()
    far = ["--config.optimizer.name=sgd", "--config.optimizer.warmup=0 steps", "--config.optimizer.clip=0.0"]
    assert main([*command, *far, "--config.optimizer.learning_rate=1e38"]) == 1
    assert "is not finite" in capsys.readouterr().err
    assert main(command) == 0
    assert main([*command, "--config.optimizer.learning_rate=0.5"]) == 2
    assert "another configuration" in capsys.readouterr().err
