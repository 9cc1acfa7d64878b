"""A run and its data belong together, and a mistake in a setting does not cost the workdir."""

import json
import shutil

import numpy as np
import pytest
from cli_runs import FAST, write_embeddings

from alignment_jax.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, repository):
    """(data, workdir -> command, workdir) of a run of two steps."""
    folder = tmp_path_factory.mktemp("changed")
    path = write_embeddings(folder / "t.npz")
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{path}"

    def command(workdir):
        return ["train", "--config", config, "--workdir", str(workdir), *FAST, "--config.train.duration=2 steps"]

    assert main(command(folder / "run")) == 0
    return path, command, folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """(data, workdir, command) of a copy of that run; the data is as it was trained on."""
    path, command, workdir = trained
    write_embeddings(path)
    shutil.copytree(workdir, tmp_path / "run")
    return path, tmp_path / "run", command(tmp_path / "run")


def everything(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"}


def test_other_data_under_the_same_name_is_refused_and_nothing_is_touched(run, capsys):
    path, workdir, command = run
    before = everything(workdir)
    write_embeddings(path, seed=1)
    assert main(command) == 2
    assert "test, train, val changed" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(workdir)]) == 2
    assert "test, train, val changed" in capsys.readouterr().err
    assert everything(workdir) == before
    write_embeddings(path)
    assert main(command) == 0
    assert main(["evaluate", "--workdir", str(workdir), "--data", f"embeddings:{path}", "--split", "test"]) == 0


def change(path, *splits):
    """Other texts in these splits; without one, the data as it was."""
    write_embeddings(path)
    with np.load(path) as found:
        arrays = dict(found)
    chosen = np.isin(arrays["split"][arrays["text_to_image"]], splits)
    arrays["text"][chosen] += 1
    np.savez(path, **arrays)


def test_unchanged_held_out_splits_can_be_evaluated(run, capsys):
    path, workdir, _ = run
    evaluate = ["evaluate", "--workdir", str(workdir)]
    change(path, "train", "val")
    assert main(evaluate) == 0  # test is unchanged
    assert main([*evaluate, "--split", "val"]) == 2
    change(path, "train", "test")
    assert main(evaluate) == 2  # they may have changed places
    assert "test, train changed" in capsys.readouterr().err
    assert main([*evaluate, "--split", "val"]) == 0
    change(path, "test")
    assert main(evaluate) == 0  # nothing was learned from it
    change(path)
    assert main(evaluate) == 0


@pytest.mark.parametrize(("changed", "status"), [("train", 2), ("val", 2), ("test", 0)])
def test_a_run_resumes_if_train_and_val_are_unchanged(changed, status, run, capsys):
    path, workdir, command = run
    change(path, changed)
    assert main(command) == status
    shown = capsys.readouterr()
    assert f"{changed} changed since th" in shown.out + shown.err
    assert ("test changed since" in (workdir / "report.html").read_text()) == (status == 0)


def test_a_resumed_run_keeps_the_environment_that_it_began_in(run):
    _, workdir, command = run
    (workdir / "environment.json").write_text(json.dumps({"jax": "of then"}))
    assert main(command) == 0
    assert json.loads((workdir / "environment.json").read_text()) == {"jax": "of then"}


def test_a_lost_record_of_the_model_inputs_is_written_again(run, capsys):
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
