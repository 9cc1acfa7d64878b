"""A broken file is found before a run starts; one that breaks later costs neither the run nor its report."""

import csv
import json
import shutil

import numpy as np
import PIL.Image
import pytest

from alignment_jax.cli.main import main
from alignment_jax.train.loop import Finished, Position, evaluation_variables, initial_state

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

SMALL = ("--quiet", "--config.train.devices=1", "--config.train.duration=2 steps", "--config.input.image_size=8")


@pytest.fixture
def fits(monkeypatch):
    """Training in no time: the model as it starts, and a checkpoint. Its entries are the calls."""
    calls = []

    def fit(experiment, workdir, **options):
        calls.append(workdir)
        (workdir / "checkpoints" / "last" / "2").mkdir(parents=True, exist_ok=True)
        return Finished(Position(step=2), evaluation_variables(initial_state(experiment)), False, {})

    monkeypatch.setattr("alignment_jax.cli.train.fit", fit)
    return calls


def write_pairs(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [("image", "caption", "split")]
    for i in range(12):
        PIL.Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append((f"{i}.png", f"a thing called {i}", ("train", "train", "val", "test")[i % 4]))
    write_rows(folder / "pairs.csv", rows)
    return folder / "pairs.csv"


def write_rows(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def set_caption(path, row, text):
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    rows[1 + row][1] = text
    write_rows(path, rows)


@pytest.fixture(params=["image", "audio"])
def broken(request, tmp_path, repository, recordings):
    """(a file of test, the train command)."""
    if request.param == "image":
        manifest = write_pairs(tmp_path / "d")
        config, file = f"flickr8k_raw.py:data=pairs:{manifest},image=convnet,text=lstm", tmp_path / "d" / "3.png"
        more = ["--config.model.encoder_a.widths=(4,)", "--config.model.encoder_b.width=4"]
        more += ["--config.input.vocab_size=300"]
    else:
        shutil.copytree(recordings.parent, tmp_path / "d")
        config, file = f"av_digits_bss.py:data=av:{tmp_path / 'd' / 'manifest.csv'}", tmp_path / "d" / "5.wav"
        more = ["--config.input.cache_mib=0", "--config.audio.seconds=0.2", "--config.audio.bands=16"]
        more += [f"--config.model.encoder_{side}.widths=(4,)" for side in "ab"]
    command = ["train", "--config", f"{repository}/configs/{config}", "--workdir", str(tmp_path / "run"), *SMALL, *more]
    return file, command


SKIP = "--config.input.on_bad_sample=skip"


def test_a_truncated_test_file_is_found_before_anything_is_trained(broken, tmp_path, fits, capsys):
    file, command = broken
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(file) in line
    assert SKIP in line
    assert fits == []
    assert not (tmp_path / "run").exists()
    file.write_bytes(content)
    assert main(command) == 0
    assert {"val", "test"} == set(json.loads((tmp_path / "run" / "results.json").read_text()))


def test_a_file_that_breaks_later_costs_neither_run_nor_report(broken, tmp_path, fits, capsys):
    file, command = broken
    run, results = tmp_path / "run", tmp_path / "run" / "results.json"
    assert main(command) == 0
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    for left in (results, run / "report.html"):
        left.unlink()
    # The report has the other split, and the error names the file.
    assert main(command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "test could not" in line
    assert str(file) in line
    assert set(json.loads(results.read_text())) == {"val"}
    assert "test could not" in (run / "report.html").read_text()
    # Left out: the same run, evaluated on the rest.
    assert main([*command, SKIP]) == 0
    shown = capsys.readouterr().out
    assert "test changed since" in shown
    assert str(file) in shown  # as one of the samples left out
    assert set(json.loads(results.read_text())) == {"val", "test"}
    # Repaired.
    file.write_bytes(content)
    assert main(command) == 0
    assert set(json.loads(results.read_text())) == {"val", "test"}


def test_a_file_of_train_that_changed_is_another_run(broken, tmp_path, fits, capsys):
    file, command = broken
    assert main(command) == 0
    first = file.with_name(f"0{file.suffix}")
    first.write_bytes(first.read_bytes() + b"\0")
    assert main(command) == 2
    assert "train changed" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_starts_again_with_repaired_data(broken, tmp_path, fits):
    file, command = broken
    assert main(command) == 0
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    first = file.with_name(f"0{file.suffix}")
    first.write_bytes(first.read_bytes() + b"\0")
    assert main(command) == 0


@pytest.fixture
def texts(tmp_path, repository):
    """(manifest, the train command)."""
    manifest = write_pairs(tmp_path / "d")
    config = f"{repository}/configs/flickr8k_raw.py:data=pairs:{manifest},image=convnet,text=lstm"
    more = ["--config.model.encoder_a.widths=(4,)", "--config.model.encoder_b.width=4", "--config.input.vocab_size=300"]
    return manifest, ["train", "--config", config, "--workdir", str(tmp_path / "run"), *SMALL, *more]


def test_texts_too(texts, tmp_path, fits, capsys):
    manifest, command = texts
    set_caption(manifest, 3, "")
    assert main(command) == 2
    assert "pairs.csv, row 4" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    set_caption(manifest, 3, "a thing called 3")
    assert main(command) == 0
    set_caption(manifest, 3, "")
    assert main([*command, SKIP]) == 0
    set_caption(manifest, 3, "a thing with another name")
    assert main(command) == 0
    assert "test changed since" in capsys.readouterr().out
    set_caption(manifest, 0, "a thing to learn with another name")
    assert main(command) == 2
    assert "train changed" in capsys.readouterr().err


def test_a_comparison_finds_a_truncated_test_file_first(broken, tmp_path, capsys):
    file, command = broken
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    methods = "vanilla" if file.suffix == ".wav" else "baseline"
    assert main(["compare", *command[1:], "--methods", methods, "--seeds", "1"]) == 2
    assert str(file) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
