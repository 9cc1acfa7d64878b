"""A classifier from the command line: train, evaluate, evaluate on other data, errors for unsupported uses."""

import csv
import json

import pytest

from alignment_jax.cli.main import main

KEYS = {"accuracy", "macro_f1", "mAP", "accuracy_a", "accuracy_b", "accuracy_fused"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def classified_run(tmp_path_factory, recordings, repository):
    workdir = tmp_path_factory.mktemp("classified") / "run"
    config = f"{repository}/configs/av_digits_bss.py:runlocal,method=probabilistic,data=av:{recordings}"
    arguments = ["train", "--config", config, "--workdir", str(workdir), "--quiet", "--config.train.devices=1"]
    arguments += ["--config.input.batch_size=8", "--config.input.fraction=1.0", "--config.train.duration=5 epochs"]
    assert main(arguments) == 0
    return workdir


def test_training_a_classifier_leaves_its_metrics(classified_run):
    results = json.loads((classified_run / "results.json").read_text())
    assert set(results) == {"val", "test"}
    assert set(results["test"]) == KEYS
    assert results["test"]["accuracy"] > 60  # three classes
    last = json.loads((classified_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {f"val/{key}" for key in KEYS} | {"train/loss", "train/accuracy_a", "train/share_shown"} <= last.keys()
    assert "accuracy" in (classified_run / "report.html").read_text()


def test_evaluate_repeats_the_results(classified_run, tmp_path, capsys):
    out = tmp_path / "metrics.json"
    assert main(["evaluate", "--workdir", str(classified_run), "--json", str(out)]) == 0
    assert "macro F1" in capsys.readouterr().out
    expected = json.loads((classified_run / "results.json").read_text())["test"]
    assert json.loads(out.read_text()) == pytest.approx(expected, abs=1e-4)


def other(recordings, path, keep):
    """A part of the manifest without splits, beside it so that its paths hold."""
    with open(recordings, newline="", encoding="utf-8") as file:
        rows = [row[:3] for row in csv.reader(file)]
    file = recordings.parent / path
    with open(file, "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([rows[0], *(row for row in rows[1:] if keep(row))])
    return f"av:{file}"


def test_classes_of_other_data_are_numbered_as_in_training(classified_run, recordings, tmp_path, capsys):
    """Only two of the three classes are there: their numbers must not move up, and mAP counts the third as 0."""
    spec, out = other(recordings, "two.csv", lambda row: row[2] != "high"), tmp_path / "m.json"
    assert main(["evaluate", "--workdir", str(classified_run), "--data", spec, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["accuracy"] > 60
    assert found["mAP"] <= 100 * 2 / 3
    assert "'high'" in capsys.readouterr().out


def test_a_class_that_was_never_learned_is_named(classified_run, recordings, capsys):
    spec = other(recordings, "new.csv", lambda row: True)
    path = recordings.parent / "new.csv"
    path.write_text(path.read_text().replace("middle", "shrill"))
    assert main(["evaluate", "--workdir", str(classified_run), "--data", spec]) == 2
    assert "'shrill'" in capsys.readouterr().err


def test_a_classifier_has_no_embeddings(classified_run, tmp_path, capsys):
    assert main(["embed", "--workdir", str(classified_run), "--out", str(tmp_path / "e.npz")]) == 2
    assert "has no embeddings" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(classified_run), "--hubness"]) == 2
    assert "--hubness" in capsys.readouterr().err


def test_a_broken_recording_stops_before_the_workdir_is_touched(recordings, tmp_path, repository, capsys):
    spec = other(recordings, "broken.csv", lambda row: True)
    whole = (recordings.parent / "3.wav").read_bytes()
    (recordings.parent / "cut.wav").write_bytes(whole[: len(whole) // 2])
    path = recordings.parent / "broken.csv"
    path.write_text(path.read_text().replace("3.wav,3.png", "cut.wav,3.png", 1))
    config = f"{repository}/configs/av_digits_bss.py:runlocal,data={spec}"
    assert main(["train", "--config", config, "--workdir", str(tmp_path / "w")]) == 2
    error = capsys.readouterr().err
    assert "cut.wav from" in error
    assert "row 4 (line 5)" in error
    assert not (tmp_path / "w").exists()
