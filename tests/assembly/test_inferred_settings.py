"""Settings inferred from the data: the length of texts and the pixel range, and how a resumed run restores them."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from alignment_jax import config
from alignment_jax.assembly.build import build
from alignment_jax.assembly.inferred_settings import MAX_INFERRED_TOKENS, choose_length, restore_inferred_settings
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.workdir import check_same_config, read_config

N = 24
INTRODUCTION = " ".join(f"standard sentence {k}" for k in ("one", "two", "three", "four") * 4)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """12-bit pictures with captions that begin alike for 48 words and differ in the last one."""
    folder = tmp_path_factory.mktemp("reports")
    with open(folder / "pairs.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "split"])
        for k in range(N):
            Image.fromarray(np.full((8, 8), 100 * k + 50, np.uint16)).save(folder / f"{k}.png")
            rows.writerow([f"{k}.png", f"{INTRODUCTION} finding{k}", ("train", "train", "val", "test")[k % 4]])
    return folder / "pairs.csv"


def settings(path, **changes):
    made = config.default()
    made.model = config.two_tower("convnet")
    made.data = f"pairs:{path}"
    made.input.update({"image_size": 8, "batch_size": 4, **changes})
    return made


def test_the_inferred_length_fits_the_captions_of_train(reports):
    built = build(settings(reports))
    length = built.experiment.config["input"]["max_length"]
    # [BOS] 48 words, at least one piece for the finding, [EOS]; no more than its ten letters.
    assert length in (56, 64)
    assert built.experiment.first_batch[1].shape[1] == length
    val = built.splits["val"]
    assert len(np.unique(built.inputs.prepare(val.b).read(np.arange(len(val.b))), axis=0)) == len(val.b)
    assert not any("input.max_length" in note for note in built.notes)


def test_truncated_texts_are_counted_in_a_note(reports):
    built = build(settings(reports, max_length=16))
    assert built.experiment.config["input"]["max_length"] == 16
    (line,) = (note for note in built.notes if "input.max_length" in note)
    for part in ("12 of 12 texts of train", "6 of 6 texts of val", "16 tokens", "--config.input.max_length=0"):
        assert part in line


def test_the_inferred_length_has_a_maximum():
    assert choose_length(np.full(10, 10_000)) == MAX_INFERRED_TOKENS == 256
    assert choose_length(np.full(10, 2)) == 8


def test_data_prints_the_inferred_length(reports, capsys):
    assert main(["data", "--data", f"pairs:{reports}"]) == 0
    out = capsys.readouterr().out
    length = build(settings(reports)).experiment.config["input"]["max_length"]
    assert re.search(rf"{length} tokens.*input\.max_length.*0 of {N} ", out)


def test_a_run_records_the_pixel_range(reports):
    built = build(settings(reports))
    assert built.experiment.config["input"]["pixel_range"] == "auto:0,4096"
    assert {name: split.a.pixel_range for name, split in built.splits.items()} == dict.fromkeys(
        ("train", "val", "test"), (0, 4096)
    )
    (line,) = (note for note in built.notes if "input.pixel_range" in note)
    assert re.search("50 to 2150.* 0 .*4096", line)


def test_an_unknown_range_is_refused_before_data_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"input\.pixel_range is 'best'"):
        build(settings(tmp_path / "nowhere.csv", pixel_range="best"))


def workdir(folder, saved):
    """A workdir with a checkpoint of a run of this configuration."""
    (folder / "checkpoints" / "last" / "1").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(saved))
    return folder


def test_a_resumed_run_restores_its_inferred_settings(reports, tmp_path):
    asked = settings(reports)
    folder = workdir(tmp_path, build(asked).experiment.config)
    again = restore_inferred_settings(asked, read_config(folder))
    assert check_same_config(folder, again.to_dict())
    assert build(again).experiment.config["input"] == read_config(folder)["input"]
    for changes in ({"max_length": 16}, {"pixel_range": "percentiles"}, {"pixel_range": "0,4096"}):
        other = restore_inferred_settings(settings(reports, **changes), read_config(folder))
        with pytest.raises(ConfigError, match=f"workdir {folder}"):
            check_same_config(folder, other.to_dict())


def test_a_run_of_an_earlier_version_resumes_with_its_settings(reports, tmp_path):
    """It read 32 tokens, and the upper eight of 16 bits."""
    asked = settings(reports)
    kept = asked.to_dict()
    kept["input"]["max_length"] = 32
    del kept["input"]["pixel_range"]
    folder = workdir(tmp_path, kept)
    again = restore_inferred_settings(asked, read_config(folder))
    assert check_same_config(folder, again.to_dict())
    built = build(again)
    assert built.experiment.first_batch[1].shape[1] == 32
    assert built.splits["train"].a.read(np.array([11]))[0].max() == (100 * 21 + 50) >> 8
