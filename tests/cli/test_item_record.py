"""A run recognizes its items under any name: same splits, and no training row in the results of a test split."""

import json
import shutil

import numpy as np
import pytest
from cli_runs import FAST

from alignment_jax.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


def write_noise(path, *, n=60, seed=0, **more):
    rng = np.random.default_rng(seed)
    arrays = {"image": rng.normal(size=(n, 8)).astype("f4"), "text": rng.normal(size=(n, 8)).astype("f4")}
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **{**arrays, **more})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, repository):
    """(folder of noise.npz and of the run, the command that made it): pure noise."""
    folder = tmp_path_factory.mktemp("noise")
    path = write_noise(folder / "noise.npz")
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{path}"
    command = ["train", "--config", config, "--workdir", str(folder / "run"), *FAST]
    command += ["--config.train.duration=20 epochs", "--config.optimizer.learning_rate=0.01"]
    assert main(command) == 0
    return folder, command


@pytest.fixture
def evaluate(run, tmp_path, capsys):
    """(arguments) -> (status, printed text, metrics or None)."""
    folder, _ = run

    def call(*arguments):
        out = tmp_path / "metrics.json"
        out.unlink(missing_ok=True)
        status = main(["evaluate", "--workdir", str(folder / "run"), "--json", str(out), *arguments])
        shown = capsys.readouterr()
        return status, shown.out + shown.err, json.loads(out.read_text()) if out.is_file() else None

    return call


@pytest.fixture
def moved(run, tmp_path):
    """The run's data elsewhere, its items under other names."""
    with np.load(run[0] / "noise.npz") as found:
        arrays = dict(found)
    np.savez(tmp_path / "moved.npz", **arrays, image_id=np.array([f"other {i}" for i in range(60)]))
    return tmp_path / "moved.npz"


def test_the_same_content_elsewhere_has_the_same_splits(run, moved, evaluate, capsys, tmp_path):
    own = evaluate("--split", "test")
    status, shown, metrics = evaluate("--data", f"embeddings:{moved}", "--split", "test")
    assert (own[0], status) == (0, 0)
    assert metrics == own[2]
    assert "split test: 6 " in shown
    assert evaluate("--data", f"embeddings:{moved}")[2] == own[2]  # test is the default
    assert evaluate("--data", f"embeddings:{moved}", "--split", "val")[2] == evaluate("--split", "val")[2]
    out = tmp_path / "embedded.npz"
    data = ["--data", f"embeddings:{moved}", "--out", str(out)]
    assert main(["embed", "--workdir", str(run[0] / "run"), *data]) == 0
    with np.load(out) as found:
        assert np.unique(found["split"], return_counts=True)[1].tolist() == [6, 48, 6]


def test_trained_rows_are_counted_named_and_left_out_unless_asked_for(run, moved, evaluate):
    status, shown, honest = evaluate("--data", f"embeddings:{moved}", "--split", "all")
    assert status == 0
    assert "48 of 60 rows" in shown
    assert "(other " in shown  # the names of some of them
    assert "split all: 12 " in shown
    assert honest["a2b_R@1"] < 50
    status, shown, learned = evaluate("--data", f"embeddings:{moved}", "--split", "all", "--include_trained")
    assert "split all: 60 " in shown
    assert "--include_trained" not in shown
    assert learned != honest
    assert evaluate("--split", "all")[2] == honest  # also of the run's own data
    assert "split train: 48 " in evaluate("--data", f"embeddings:{moved}", "--split", "train")[1]


def test_data_with_splits_keeps_them_without_the_rows_of_the_training(run, moved, evaluate):
    with np.load(moved) as found:
        arrays = dict(found)
    np.savez(moved, **arrays, split=np.array(["test"] * 30 + ["train"] * 30))
    status, shown, metrics = evaluate("--data", f"embeddings:{moved}", "--split", "test")
    assert status == 0
    assert "24 of 30 rows" in shown
    assert "split test: 6 " in shown
    assert metrics["a2b_R@1"] < 60


def test_other_data_without_splits_is_no_test_split(run, evaluate, tmp_path):
    other = f"embeddings:{write_noise(tmp_path / 'other.npz', seed=1)}"
    status, shown, _ = evaluate("--data", other, "--split", "test")
    assert status == 2
    assert "there is no 'test'" in shown
    assert "--split all" in shown
    assert shown.count("\n") == 1
    for asked in (("--split", "all"), ()):
        status, shown, _ = evaluate("--data", other, *asked)
        assert status == 0
        assert "split all: 60 " in shown
        assert "training data" not in shown


def test_nothing_but_trained_rows_is_refused(run, moved, evaluate, tmp_path):
    out = tmp_path / "embedded.npz"
    assert main(["embed", "--workdir", str(run[0] / "run"), "--data", f"embeddings:{moved}", "--out", str(out)]) == 0
    with np.load(out) as found, np.load(moved) as arrays:
        which = np.isin(arrays["image_id"], found["image_id"][found["split"] == "train"])
        np.savez(tmp_path / "seen.npz", image=arrays["image"][which], text=arrays["text"][which])
    status, shown, _ = evaluate("--data", f"embeddings:{tmp_path / 'seen.npz'}", "--split", "all")
    assert status == 2
    assert "48 of 48 rows" in shown
    assert "--include_trained" in shown


def test_a_run_without_fingerprints_still_evaluates_and_gets_them_when_it_resumes(run, moved, tmp_path, capsys):
    folder, command = run
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run", copy)
    (copy / "items.npz").unlink()
    asked = ["evaluate", "--workdir", str(copy), "--data", f"embeddings:{moved}", "--split"]
    assert main([*asked, "test"]) == 2
    assert main([*asked, "all"]) == 0
    assert "no fingerprints" in capsys.readouterr().out
    (copy / "items.npz").write_bytes(b"damaged")
    assert main([*asked, "all"]) == 1
    assert str(copy / "items.npz") in capsys.readouterr().err
    again = [str(copy) if word == str(folder / "run") else word for word in command]
    assert main(again) == 0
    assert (copy / "items.npz").read_bytes() == (folder / "run" / "items.npz").read_bytes()


def test_a_run_resumes_with_the_same_content_under_another_name_and_with_no_other(run, moved, tmp_path, capsys):
    folder, command = run
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run", copy)

    def command_with(path):
        words = [str(copy) if word == str(folder / "run") else word for word in command]
        return [word.replace(str(folder / "noise.npz"), str(path)) for word in words]

    assert main(command_with(moved)) == 0
    assert "in the same order" in capsys.readouterr().out
    before = json.loads((folder / "run" / "results.json").read_text())
    assert json.loads((copy / "results.json").read_text()) == before
    assert json.loads((copy / "config.json").read_text())["data"] == f"embeddings:{moved}"
    other = write_noise(tmp_path / "other.npz", seed=1)
    assert main(command_with(other)) == 2
    assert "train, val differs" in capsys.readouterr().err
    with np.load(moved) as found:
        np.savez(tmp_path / "turned.npz", **{name: array[::-1] for name, array in found.items()})
    assert main(command_with(tmp_path / "turned.npz")) == 2
    assert "in another order" in capsys.readouterr().err


def test_rows_that_train_and_test_share_are_named_when_the_run_starts(run, tmp_path, capsys):
    folder, command = run
    with np.load(folder / "noise.npz") as found:
        arrays = {name: np.concatenate([found[name], found[name][:3]]) for name in ("image", "text")}
    split = np.array(["train"] * 48 + ["val"] * 6 + ["test"] * 9)
    path = tmp_path / "leaking.npz"
    np.savez(path, **arrays, split=split)
    words = [word.replace(str(folder / "noise.npz"), str(path)) for word in command]
    words = [str(tmp_path / "run") if word == str(folder / "run") else word for word in words]
    assert main([*words, "--config.train.duration=1 steps"]) == 0
    assert "3 of 9 rows" in capsys.readouterr().out
    assert main(["evaluate", "--workdir", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "3 of 9 rows" in shown
    assert "split test: 6 " in shown
