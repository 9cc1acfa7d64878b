"""`compare` on modalities that fusion cannot use, from the command to the verdict."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from alignment_jax.cli.main import main

pytestmark = pytest.mark.slow

N, C = 1000, 4
TINY = (
    "--quiet", "--config.train.devices=1", "--config.train.duration=8 epochs", "--config.eval.interval=1 epochs",
)  # fmt: skip
SEEDS = ("--methods=vanilla", "--seeds=4")


def samples(rates=(1 / C,) * C, *, strength=(1.0, 1.0)):
    """Two modalities of independent noise around the centers of the classes, and the labels."""
    rng = np.random.default_rng(0)
    label = rng.choice(C, N, p=rates)
    centers = rng.normal(size=(2, C, 8))
    a, b = (s * centers[k][label] + rng.normal(size=(N, 8)) for k, s in enumerate(strength))
    return {"a": a, "b": b, "label": label}


def noise():
    return samples(strength=(0.0, 1.0))


def copy():
    found = samples()
    return {**found, "a": 4.0 * np.eye(C)[found["label"]]}


def long_tail():
    return samples((0.9, 0.04, 0.03, 0.03), strength=(0.3, 0.3))


def missing():
    found = samples(strength=(0.8, 0.8))
    has = np.random.default_rng(1).random(N) < 0.7
    return {**found, "b": np.where(has[:, None], found["b"], np.nan), "has_b": has}


@pytest.fixture
def config_of(tmp_path, repository):
    """Arrays -> the flag of a configuration that reads them."""

    def write(arrays):
        split = np.repeat(["train", "val", "test"], [300, 100, 600])
        features = {name: arrays[name].astype(np.float32) for name in ("a", "b")}
        np.savez(tmp_path / "f.npz", **{**arrays, **features}, split=split, modalities=["audio", "image"])
        return f"--config={repository}/configs/classify_features.py:width=32,data=features:{tmp_path}/f.npz"

    return write


@pytest.fixture
def compared(tmp_path, config_of, capsys):
    def run(arrays):
        assert main(["compare", config_of(arrays), f"--workdir={tmp_path}/w", *TINY, *SEEDS]) == 0
        shown = capsys.readouterr().out
        (row,) = json.loads((tmp_path / "w" / "results.json").read_text())["fusion"]
        kept = []
        for seed in range(4):
            with np.load(tmp_path / "w" / "runs" / "vanilla" / "1" / f"seed{seed}" / "items.npz") as stored:
                kept.append({name: stored[name] for name in stored.files})
        return row, shown, kept

    return run


def test_pure_noise_is_named_and_fusion_gains_nothing(compared):
    row, shown, kept = compared(noise())
    audio, image = row["modalities"]["a"], row["modalities"]["b"]
    assert not audio["above_chance"]
    assert audio["learned"] is None
    assert image["above_chance"]
    assert 0 < image["learned"] <= 1
    assert row["best"] == "b"
    assert row["verdict"] != "beats"
    gain = 100 * np.mean([one["correct"].mean() - one["correct_b"].mean() for one in kept])
    assert row["gain"]["mean"] == pytest.approx(gain)
    assert "audio alone: not above chance" in shown


def test_a_copy_of_the_label_cannot_be_beaten(compared):
    row, shown, _ = compared(copy())
    assert row["modalities"]["a"]["accuracy"]["mean"] == 100.0
    assert (row["best"], row["verdict"]) == ("a", "does not beat")
    assert row["gain"]["mean"] == pytest.approx(row["accuracy"]["mean"] - 100.0)
    assert "fusion does not beat its best modality here" in shown


def test_macro_f1_shows_the_rare_classes_that_accuracy_hides(compared):
    row, _, kept = compared(long_tail())
    assert row["accuracy"]["mean"] > 85
    assert row["macro_f1"]["mean"] < row["accuracy"]["mean"] - 20
    low, high = row["macro_f1"]["low"], row["macro_f1"]["high"]
    assert low < row["macro_f1"]["mean"] < high < row["accuracy"]["low"]
    # Always the most frequent class is as accurate, and its macro F1 is the lower bound of a useless model.
    label = kept[0]["label"]
    assert f1_score(label, np.zeros(len(label)), average="macro") * 100 < 30


def test_a_modality_that_samples_lack_is_judged_where_it_is(compared):
    arrays = missing()
    row, shown, kept = compared(arrays)
    has = arrays["has_b"][400:]
    assert (row["modalities"]["b"]["samples"], row["samples"]) == (has.sum(), 600)
    for one in kept:
        np.testing.assert_array_equal(one["has_b"], has)
    own = 100 * np.mean([one["correct_b"][has].mean() for one in kept])
    gain = 100 * np.mean([(one["correct"][has].mean() - one["correct_b"][has].mean()) for one in kept])
    assert row["modalities"]["b"]["accuracy"]["mean"] == pytest.approx(own)
    assert row["modalities"]["b"]["gain"]["mean"] == pytest.approx(gain)
    assert row["verdict"] == "beats"
    assert f"image alone [%], {has.sum()} of 600 samples" in shown


def test_one_run_says_it_too(tmp_path, config_of, capsys):
    """Only the image is trained: the head of the audio is at chance, and the prediction is the image's head."""
    alone = ["--config.classification.predict=b", "--config.classification.weight_a=0"]
    alone += ["--config.classification.weight_fused=0", f"--workdir={tmp_path}/w"]
    assert main(["train", config_of(samples()), *TINY, *alone]) == 0
    verdict = "test: fusion does not beat its best modality here: +0.0 points against image"
    assert verdict in capsys.readouterr().out
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    assert results["test"]["accuracy"] == results["test"]["accuracy_b"] > 70
    page = (tmp_path / "w" / "report.html").read_text(encoding="utf-8")
    assert "Balance of the modalities" in page
    assert verdict.removeprefix("test: ") in page
    assert main(["evaluate", f"--workdir={tmp_path}/w", "--split=val"]) == 0
    shown = capsys.readouterr().out
    assert "val: fusion does not beat its best modality here" in shown
    assert "image alone [%]" in shown
