"""Classifiers: data and settings that are errors, class weights, missing modalities."""

import csv
import json
import re

import mock_data_sets as mock
import mock_samples as samples
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.build import build, load_source
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError, DataError


def small(spec, *encoders, **changes):
    """A classifier that builds in no time."""
    config = configs.default()
    config.data = spec
    config.model = configs.fusion_classifier(*encoders)
    config.input.image_size, config.input.batch_size = 16, 8
    config.eval.metric, config.train.devices = "val/accuracy", 1
    config.update_from_flattened_dict(changes)
    return config


IMAGE = {"name": "convnet", "widths": (4,), "norm": "group"}
TEXT = {"name": "lstm", "embedding_width": 4, "width": 4}


def refusal(config):
    with pytest.raises((ConfigError, DataError)) as error:
        build(config)
    return str(error.value)


def test_a_text_made_of_the_class_is_refused(tmp_path):
    """Random pictures, each with a class: a text encoder that reads the class name is always right."""
    line = refusal(small(mock.labelled(tmp_path), IMAGE, TEXT))
    assert "its text" in line
    assert "posts:FILE.csv" in line
    assert "evaluate --zero_shot" in line
    assert "\n" not in line


def test_a_set_without_classes_lists_the_sets_with_classes(tmp_path):
    line = refusal(small(mock.pairs(tmp_path), IMAGE, TEXT))
    assert "samples:FILE.csv" in line


def test_a_class_name_that_a_prepared_set_lends_its_text_is_refused(tmp_path):
    source = data.load(f"posts:{samples.posts(tmp_path)}")
    # As `tfds:` gives a set of images with classes.
    from_label = data.PairSource(
        "tfds", "tfds:shapes", source.splits, label_names=source.label_names, from_label=("b",)
    )
    with pytest.raises(ConfigError, match=r"its text .*tfds:shapes,b=FIELD"):
        build(small("tfds:shapes", IMAGE, TEXT), source=from_label)


def test_missing_modalities_and_odd_classes_are_noted_at_the_start(tmp_path):
    def changes(number, row):
        return {
            **row,
            "label": "rare" if number == 3 else row["label"],
            "image": "" if number % 4 == 0 else row["image"],
        }

    path = samples.table(tmp_path, ("image", "text", "label", "split"), changes=changes)
    built = build(small(f"posts:{path}", IMAGE, TEXT, **{"classification.class_weights": "balanced"}))
    first, second = built.experiment.messages
    assert re.match(r"8 .*image \(train 4 of 18, val 2 of 6, test 2 of 6\)", first)
    assert re.match(r"train .*'rare' \(1 in val\)", second)
    assert {first, second} <= set(built.notes)
    weights = dict(zip(built.source.label_names, built.experiment.objective.class_weights, strict=True))
    assert weights["rare"] == 0.0
    assert min(weight for name, weight in weights.items() if name != "rare") > 0
    (batch,) = built.experiment.batches(np.arange(8)[None], 0, 0)
    assert batch["has_a"].tolist() == [number % 4 != 0 for number in (0, 1, 2, 5, 6, 7, 10, 11)]


def test_a_metric_of_a_modality_that_val_lacks_is_refused(tmp_path):
    def changes(number, row):
        return {**row, "text": "" if row["split"] == "val" else row["text"]}

    path = samples.table(tmp_path, ("image", "text", "label", "split"), changes=changes)
    line = refusal(small(f"posts:{path}", IMAGE, TEXT, **{"eval.metric": "val/accuracy_b"}))
    assert "val of posts:" in line
    assert "eval.metric is 'val/accuracy_b'" in line
    assert "val/accuracy, " in line


def test_an_order_by_classes_needs_classes(tmp_path, embeddings):
    config = configs.default()
    config.data, config.sampling.name, config.train.devices = f"embeddings:{embeddings}", "class_balanced", 1
    if load_source(config).splits["train"].label is None:
        assert "use sampling.name=shuffle" in refusal(config)
    config = small(f"posts:{samples.posts(tmp_path)}", IMAGE, TEXT, **{"sampling.name": "class_balanced"})
    sampler = build(config).experiment.sampler
    np.testing.assert_array_equal(np.bincount(sampler.label[sampler.order({}, 0)]), [6, 6, 6])
    assert "'balanced'" in refusal(small(config.data, **{"classification.class_weights": "balance"}))


def test_an_alignment_of_samples_with_gaps_is_refused_or_leaves_them_out(tmp_path):
    config = configs.default()
    config.data = f"samples:{samples.with_gaps(tmp_path, ('image', 'text', 'label', 'split'))}"
    config.model, config.train.devices = configs.two_tower("convnet", "lstm"), 1
    with pytest.raises(DataError, match=r"gaps\.csv, row 1 .*on_bad_sample=skip"):
        load_source(config)
    config.input.on_bad_sample = "skip"
    assert sum(len(split) for split in load_source(config).splits.values()) == samples.N - 13


@pytest.mark.slow
def test_a_run_with_gaps_trains_and_is_evaluated(tmp_path, repository, capsys):
    path = samples.with_gaps(tmp_path, ("image", "text", "label", "split"))
    config, workdir = (
        f"{repository}/configs/classify.py:runlocal,method=probabilistic,data=posts:{path}",
        tmp_path / "run",
    )
    arguments = ["--workdir", str(workdir), "--quiet", "--config.train.devices=1", "--config.input.batch_size=8"]
    arguments += ["--config.input.image_size=16", "--config.sampling.scores=recycled"]
    assert main(["train", "--config", config, *arguments]) == 0
    counts = "(train 4 of 18, val 2 of 6, test 2 of 6)"
    assert counts in capsys.readouterr().out
    assert counts in (workdir / "log.txt").read_text()
    results = json.loads((workdir / "results.json").read_text())
    assert {"accuracy", "accuracy_a", "accuracy_b", "accuracy_fused"} <= set(results["test"])
    # One modality alone: only the samples that have it, here none for the image.
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    mock.write_csv(
        tmp_path / "texts.csv",
        [header[:3], *([row[0] if k == 0 else "", row[1], row[2]] for k, row in enumerate(rows[1:6]))],
    )
    out = tmp_path / "m.json"
    spec = f"posts:{tmp_path / 'texts.csv'}"
    command = ["evaluate", "--workdir", str(workdir), "--data", spec, "--json", str(out)]
    assert main([*command, "--include_trained"]) == 0
    assert re.search(r"\b4 .*image .*4 of 5", capsys.readouterr().out)
    assert json.loads(out.read_text())["accuracy_a"] in (0.0, 100.0)
