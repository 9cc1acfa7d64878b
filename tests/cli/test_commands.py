"""The commands as a user types them, in one process."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from cli_runs import FAST, write_embeddings

from alignment_jax.cli.main import main
from alignment_jax.inference.trained_model import open_source
from alignment_jax.report import chance_recall

KEYS = {f"{way}_R@{k}" for way in ("a2b", "b2a") for k in (1, 5, 10)} | {"rsum"}


def test_train_leaves_everything_in_the_workdir(frozen_run):
    workdir, _ = frozen_run
    names = {path.name for path in workdir.iterdir()}
    assert names >= {
        "config.json", "environment.json", "metrics.jsonl", "checkpoints", "tensorboard", "report.html", "log.txt",
        "results.json", "inputs.json",
    }  # fmt: skip
    results = json.loads((workdir / "results.json").read_text())
    assert set(results) == {"val", "test"}
    assert set(results["test"]) == KEYS | {"a2b_skewness", "b2a_skewness"}
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    last = rows[-1]
    assert {
        "train/loss",
        "train/weight_ab",
        "train/weight_ba",
        "train/temperature_mean",
        "train/learning_rate",
    } <= last.keys()
    assert {f"val/{key}" for key in KEYS} <= last.keys()


def test_training_learns(frozen_run):
    workdir, _ = frozen_run
    results = json.loads((workdir / "results.json").read_text())
    chance = sum(chance_recall(np.repeat(np.arange(10), 2)).values()) / 2  # rsum is among the values
    assert results["test"]["rsum"] > 1.3 * chance


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.slow
def test_choices_for_the_start_are_printed_once(quiet, tmp_path, embeddings, repository, capsys):
    config = f"{repository}/configs/flickr8k_frozen.py:data=embeddings:{embeddings}"
    fast = [option for option in FAST if quiet or option != "--quiet"]
    assert main(["train", "--config", config, "--workdir", str(tmp_path / "w"), *fast]) == 0
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("CCA start:") == 1
    assert (tmp_path / "w" / "log.txt").read_text().count("CCA start:") == 1


def test_val_results_are_those_of_the_best_step(frozen_run):
    workdir, _ = frozen_run
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    best = max(row["val/rsum"] for row in rows if "val/rsum" in row)
    assert json.loads((workdir / "results.json").read_text())["val"]["rsum"] == pytest.approx(best, abs=1e-4)


@pytest.mark.slow
def test_the_same_command_again_changes_no_number(frozen_run):
    workdir, arguments = frozen_run
    before = (workdir / "metrics.jsonl").read_bytes(), (workdir / "results.json").read_bytes()
    assert main(arguments) == 0
    assert ((workdir / "metrics.jsonl").read_bytes(), (workdir / "results.json").read_bytes()) == before


def test_another_configuration_is_refused_and_nothing_is_touched(frozen_run, capsys):
    workdir, arguments = frozen_run
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert main([*arguments, "--config.seed=5"]) == 2
    assert "seed: 0 -> 5" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.parametrize("kind", ["frozen_run", pytest.param("raw_run", marks=pytest.mark.slow)])
def test_evaluate_repeats_the_results(kind, request, tmp_path, capsys):
    workdir, _ = request.getfixturevalue(kind)
    out = tmp_path / "metrics.json"
    assert main(["evaluate", "--workdir", str(workdir), "--json", str(out)]) == 0
    assert "rsum" in capsys.readouterr().out
    expected = json.loads((workdir / "results.json").read_text())["test"]
    assert json.loads(out.read_text()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("command", ["evaluate", "embed"])
def test_a_damaged_best_model_is_named_and_nothing_older_takes_its_place(
    command, frozen_run, embeddings, tmp_path, capsys
):
    shutil.copytree(frozen_run[0], tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best"
    step = max(int(path.name) for path in best.iterdir())
    (best / str(step) / "loop" / "metadata").write_text("{}")
    more = ["--data", f"embeddings:{embeddings}", "--out", str(tmp_path / "e.npz")] if command == "embed" else []
    assert main([command, "--workdir", str(tmp_path / "run"), *more]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"best/{step} is damaged" in line
    assert "train command again" in line
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.slow
def test_evaluate_on_other_data_with_and_without_splits(frozen_run, tmp_path, capsys):
    workdir, _ = frozen_run
    other = write_embeddings(tmp_path / "other.npz", n=24, seed=7)
    whole = write_embeddings(tmp_path / "whole.npz", n=24, seed=7, split=False)
    out = tmp_path / "metrics.json"
    assert main(["evaluate", "--workdir", str(workdir), "--data", f"embeddings:{other}", "--json", str(out)]) == 0
    assert "4 of image, 8" in capsys.readouterr().out
    assert main(["evaluate", "--workdir", str(workdir), "--data", f"embeddings:{whole}", "--json", str(out)]) == 0
    assert "split all" in capsys.readouterr().out
    # 24 items the model never saw: it generalises, or the shared code was not learned
    assert json.loads(out.read_text())["b2a_R@10"] > 100 * 10 / 24


@pytest.mark.parametrize("command", ["evaluate", "embed"])
def test_raw_pairs_for_a_run_on_latents_are_an_error_with_a_hint(command, frozen_run, tmp_path, capsys):
    (tmp_path / "p.csv").write_text("image,caption\n" + "".join(f"{i}.png,a thing\n" for i in range(4)))
    for i in range(4):
        PIL.Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
    more = [f"--out={tmp_path / 'e.npz'}"] if command == "embed" else []
    assert main([command, f"--workdir={frozen_run[0]}", f"--data=pairs:{tmp_path / 'p.csv'}", *more]) == 2
    shown = capsys.readouterr()
    (line,) = (shown.out + shown.err).splitlines()
    assert str(tmp_path / "p.csv") in line
    assert "--image_encoder" in line


def test_output_of_evaluate_has_no_control_characters(frozen_run, monkeypatch, capsys):
    workdir, _ = frozen_run
    config, source = open_source(workdir, None)
    odd = dataclasses.replace(source, notes=("a\x1b[31mnote",), problems=("b\x9b",), modalities=("c\x1b", "d"))
    monkeypatch.setattr("alignment_jax.cli.evaluate.open_source", lambda *_, **__: (config, odd))
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    shown = capsys.readouterr().out
    assert "a [31mnote" in shown
    assert not set(shown) & {"\x1b", "\x9b"}


@pytest.mark.slow
def test_evaluation_of_held_out_data_needs_no_training_data(frozen_run, tmp_path, embeddings):
    """The checkpoint is enough: the training file may be gone."""
    workdir, _ = frozen_run
    other = write_embeddings(tmp_path / "other.npz", n=24, seed=8)
    moved = embeddings.with_suffix(".moved")
    embeddings.rename(moved)
    try:
        assert main(["evaluate", "--workdir", str(workdir), "--data", f"embeddings:{other}"]) == 0
    finally:
        moved.rename(embeddings)


@pytest.mark.parametrize("kind", ["frozen_run", pytest.param("raw_run", marks=pytest.mark.slow)])
def test_embed_writes_an_embeddings_file(kind, request, tmp_path):
    workdir, _ = request.getfixturevalue(kind)
    out = tmp_path / "embeddings.npz"
    assert main(["embed", "--workdir", str(workdir), "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as arrays:
        image, text, owner = arrays["image"], arrays["text"], arrays["text_to_image"]
        assert image.dtype == text.dtype == np.float32
        assert image.shape[1] == text.shape[1]
        assert len(arrays["image_id"]) == len(arrays["split"]) == len(image)
        assert len(arrays["caption"]) == len(owner) == len(text)
        np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)
        assert set(owner) == set(range(len(image)))
    assert main(["data", "--data", f"embeddings:{out}"]) == 0


def test_embedded_vectors_have_the_reported_recall(frozen_run, tmp_path):
    from alignment_jax import metrics

    workdir, _ = frozen_run
    out = tmp_path / "embeddings.npz"
    main(["embed", "--workdir", str(workdir), "--out", str(out)])
    with np.load(out, allow_pickle=False) as arrays:
        test = np.flatnonzero(arrays["split"] == "test")
        chosen = np.isin(arrays["text_to_image"], test)
        owner = np.searchsorted(test, arrays["text_to_image"][chosen])
        found = metrics.retrieval_recall(arrays["image"][test], arrays["text"][chosen], owner)
    expected = json.loads((workdir / "results.json").read_text())["test"]
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: expected[name] for name in found}, abs=1e-4
    )


def test_data_describes(embeddings, capsys, tmp_path):
    out = tmp_path / "description.json"
    assert main(["data", "--data", f"embeddings:{embeddings}", "--json", str(out)]) == 0
    assert "train" in capsys.readouterr().out
    assert json.loads(out.read_text())


BAD = {
    "no command": ([], "usage"),
    "unknown command": (["trian"], "unknown command 'trian'"),
    "no workdir": (["train", "--config", "{configs}/quickstart.py"], "--workdir is missing"),
    "no config": (["train", "--workdir", "{tmp}/w"], "--config is missing"),
    "missing config": (["train", "--config", "{tmp}/none.py", "--workdir", "{tmp}/w"], "no file"),
    "unknown argument": (
        ["train", "--config", "{configs}/quickstart.py:runloca", "--workdir", "{tmp}/w"],
        "error: .*'runloca', .*'runlocal'.* data, method, runlocal$",
    ),
    "unknown setting": (
        ["train", "--config", "{configs}/quickstart.py", "--workdir", "{tmp}/w", "--config.optimizer.lr=1"],
        "unknown setting lr",
    ),
    "wrong type": (
        ["train", "--config", "{configs}/quickstart.py", "--workdir", "{tmp}/w", "--config.input.batch_size=many"],
        "many",
    ),
    "unknown flag": (["train", "--folder", "x"], "folder"),
    "stray word": (["evaluate", "now", "--workdir", "{tmp}/w"], "unexpected argument 'now'"),
    "unknown source": (["data", "--data", "flicker:x"], "flickr"),
    "missing data": (["data", "--data", "embeddings:{tmp}/none.npz"], r"none\.npz"),
    "wrong model": (
        ["train", "--config", "{configs}/flickr8k_frozen.py:data=synthetic", "--workdir", "{tmp}/w"],
        r"flickr8k_raw\.py",
    ),
    "nothing trained": (["evaluate", "--workdir", "{tmp}/w"], "holds no run"),
    "bad duration": (
        ["train", "--config", "{configs}/quickstart.py", "--workdir", "{tmp}/w", "--config.train.duration=long"],
        r"train\.duration",
    ),
    "bad loss": (
        ["train", "--config", "{configs}/quickstart.py:runlocal", "--workdir", "{tmp}/w", "--config.loss.name=clip"],
        "infonce, max_margin, sigmoid",
    ),
    "method for other data": (
        ["train", "--config", "{configs}/quickstart.py:runlocal", "--workdir", "{tmp}/w", "--config.perturb.sigma=0.1"],
        "frozen latents",
    ),
    "too many devices": (
        ["train", "--config", "{configs}/quickstart.py:runlocal", "--workdir", "{tmp}/w", "--config.train.devices=99"],
        "8 devices",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line_and_status_two(case, tmp_path, capsys, repository):
    arguments, message = BAD[case]
    filled = [text.format(configs=f"{repository}/configs", tmp=tmp_path) for text in arguments]
    assert main(filled) == 2
    captured = capsys.readouterr()
    if case != "no command":
        import re

        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, lines
        assert re.search(message, lines[0]), lines[0]
        assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []  # nothing was made before the mistake was found


def test_evaluate_refuses_data_of_another_kind_or_width(frozen_run, tmp_path, capsys):
    workdir, _ = frozen_run
    assert main(["evaluate", "--workdir", str(workdir), "--data", "synthetic:train=4,val=3,test=3,size=16"]) == 2
    assert "--image_encoder" in capsys.readouterr().err
    np.savez(tmp_path / "wide.npz", image=np.ones((4, 5)), text=np.ones((4, 10)), text_to_image=np.arange(4))
    assert main(["evaluate", "--workdir", str(workdir), "--data", f"embeddings:{tmp_path}/wide.npz"]) == 2
    assert "[5]" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(workdir), "--split", "validation"]) == 2
    assert "train, val, test" in capsys.readouterr().err


def test_help_and_version(capsys):
    for arguments in (["--help"], ["train", "--help"], ["--version"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip()


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="holds no run"):
        main(["evaluate", "--workdir", "nowhere", "--debug"])


@pytest.mark.slow
def test_a_failed_command_does_not_wait_for_threads_that_it_left_behind():
    code = (
        "import sys, threading, time\n"
        "from alignment_jax.cli import main\n"
        "def failing(arguments):\n"
        "    threading.Thread(target=time.sleep, args=(10_000,)).start()\n"
        "    print('said before')\n"
        "    return 1\n"
        "main.main = failing\n"
        "main.console()\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert (found.returncode, found.stdout) == (1, "said before\n")


@pytest.mark.slow
def test_the_module_runs_as_the_console_script_does():
    found = subprocess.run([sys.executable, "-m", "alignment_jax", "nonsense"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "unknown command" in found.stderr


def test_a_locked_workdir_is_refused(frozen_run, capsys):
    from alignment_jax.train.workdir import locked

    workdir, arguments = frozen_run
    with locked(workdir):
        assert main(arguments) == 2
    assert "in use" in capsys.readouterr().err


@pytest.mark.slow
def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, embeddings, repository, capsys):
    (tmp_path / "file").touch()
    config = f"{repository / 'configs' / 'flickr8k_frozen.py'}:runlocal,data=embeddings:{embeddings}"
    assert main(["train", "--config", config, "--workdir", str(tmp_path / "file" / "run"), "--quiet"]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, embeddings, repository, capsys):
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{embeddings}"
    arguments = ["train", "--config", config, "--workdir", str(tmp_path / "w"), *FAST, "--config.optimizer.clip=0.0"]
    arguments += [
        "--config.optimizer.learning_rate=1e38",
        "--config.optimizer.name=sgd",
        "--config.optimizer.warmup=0 steps",
    ]
    assert main(arguments) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is not finite" in line
    assert "optimizer.learning_rate" in line


@pytest.mark.slow
def test_texts_of_ones_own_are_embedded(raw_run):
    """The captions of the test split, given as plain strings, land where `embed` puts them."""
    from alignment_jax import data
    from alignment_jax.inference.trained_model import open_run, open_source

    workdir, _ = raw_run
    _, source = open_source(workdir, None)
    split = source.splits["test"]
    trained = open_run(workdir)
    texts = data.caption_texts(split)[:5]
    np.testing.assert_allclose(trained.embed_texts(texts), trained.embed(split).b[:5], atol=1e-5)


@pytest.mark.slow
def test_a_run_opened_without_its_data_decodes_images_alike(raw_run):
    """Hints of the data set decide the size of decoded images, so they are kept with the run."""
    from alignment_jax.inference.trained_model import load_trained, open_run

    workdir, _ = raw_run
    config, source = open_source(workdir, None)
    assert json.loads((workdir / "inputs.json").read_text())["hints"] == dict(source.hints) != {}
    ways = (open_run(workdir), load_trained(workdir, config, source))
    sizes = [trained.inputs.prepare(source.splits["test"].a).shorter_side for trained in ways]
    assert sizes[0] == sizes[1] is not None


def test_latents_have_no_texts_to_embed(frozen_run):
    from alignment_jax.core.errors import UserError
    from alignment_jax.inference.trained_model import open_run

    with pytest.raises(UserError, match="does not read texts"):
        open_run(frozen_run[0]).embed_texts(["a dog"])


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_left_out_on_request(raw_run, tmp_path, capsys):
    folder = str(raw_run[0])
    rng = np.random.default_rng(0)
    for i in range(6):
        PIL.Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"<html>")
    texts = [f"a thing {i}" for i in range(5)] + ["a thing" + " and another one" * 90]
    (tmp_path / "p.csv").write_text("image,caption\n" + "".join(f"{i}.png,{text}\n" for i, text in enumerate(texts)))
    where, out = ["--workdir", folder, "--data", f"pairs:{tmp_path / 'p.csv'}"], tmp_path / "out.npz"
    for command in (["evaluate", *where], ["embed", *where, "--out", str(out)]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "3.png" in line
        assert line.endswith("--on_bad_sample=skip")
        assert main([*command, "--on_bad_sample=skip"]) == 0
        said = capsys.readouterr().out
        assert "3.png" in said
        assert re.search(r"1 of 5 texts of all .*\d+ tokens", said)
    with np.load(out) as found:
        assert found["image_id"].tolist() == [f"{i}.png" for i in (0, 1, 2, 4, 5)]
