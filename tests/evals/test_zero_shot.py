"""Zero-shot classification: the arithmetic on arrays, and the command on a run of each kind."""

import csv
import json
import sys

import numpy as np
import pytest
from cli_runs import write_embeddings
from PIL import Image

from alignment_jax import data, evals, metrics
from alignment_jax.cli.main import main


def test_accuracy_at_k_is_that_of_sorting():
    rng = np.random.default_rng(0)
    scores, label = rng.normal(size=(200, 12)), rng.integers(0, 12, 200)
    order = np.argsort(-scores, axis=1)
    for k in (1, 5, 12):
        expected = 100 * np.mean((order[:, :k] == label[:, None]).any(axis=1))
        assert metrics.top_k_accuracy(scores, label, ks=(k,))[f"accuracy@{k}"] == pytest.approx(expected)


def test_a_model_with_equal_scores_for_all_classes_scores_nothing():
    assert metrics.top_k_accuracy(np.ones((4, 6)), np.arange(4)) == {"accuracy@1": 0.0, "accuracy@5": 0.0}


@pytest.mark.parametrize(
    ("scores", "labels", "ks", "message"),
    [
        (np.ones(3), [0], (1,), "shape"),
        (np.full((1, 2), np.nan), [0], (1,), "NaN in row 0"),
        (np.ones((2, 2)), [0, 2], (1,), "labels"),
        (np.ones((1, 2)), [0], (0,), "positive"),
    ],
)
def test_bad_input_is_refused(scores, labels, ks, message):
    with pytest.raises(ValueError, match=message):
        metrics.top_k_accuracy(scores, np.array(labels), ks=ks)


def test_more_templates_average_out_their_noise():
    """Prompts are class plus template plus noise: the ensemble finds the class better than one of them."""
    rng = np.random.default_rng(1)
    classes, templates, d = 20, 16, 32
    center = rng.normal(size=(classes, d))
    prompts = np.repeat(center, templates, axis=0) + 3 * rng.normal(size=(classes * templates, d))
    class_of, label = np.repeat(np.arange(classes), templates), rng.integers(0, classes, 400)
    items = center[label] + rng.normal(size=(400, d))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    one = evals.zero_shot(items, evals.class_embeddings(prompts[::templates], np.arange(classes)), label)
    all_of_them = evals.zero_shot(items, evals.class_embeddings(prompts, class_of), label)
    assert all_of_them["accuracy@1"] > one["accuracy@1"] + 10
    assert all_of_them["accuracy@5"] >= all_of_them["accuracy@1"]


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    items, classes, label = rng.normal(size=(50, 4)), rng.normal(size=(7, 4)), rng.integers(0, 7, 50)
    whole = evals.zero_shot(items, classes, label)
    monkeypatch.setattr(sys.modules["alignment_jax.evals.zero_shot"], "_BLOCK", 7 * 8)
    assert evals.zero_shot(items, classes, label) == pytest.approx(whole)


@pytest.mark.slow
def test_the_command_on_frozen_latents(frozen_run, tmp_path, capsys):
    """Classes are hidden codes; their prompts are texts of that code, the input of the frozen text encoder."""
    workdir, _ = frozen_run
    write_embeddings(tmp_path / "all.npz", n=60, seed=3)
    with np.load(tmp_path / "all.npz") as found:
        arrays = {name: found[name] for name in found.files}
    # Items 0 .. 11 are the classes: their texts are the prompts, and they are the items to classify.
    kept = arrays["text_to_image"] < 12
    names = np.array([f"class {k}" for k in range(12)])
    np.savez(
        tmp_path / "items.npz",
        image=arrays["image"][:12],
        text=arrays["text"][kept],
        text_to_image=arrays["text_to_image"][kept],
        label=names,
    )
    np.savez(
        tmp_path / "prompts.npz",
        **{"text": arrays["text"][kept], "class": arrays["text_to_image"][kept], "class_name": names},
    )
    command = ["evaluate", "--workdir", str(workdir), f"--data=embeddings:{tmp_path / 'items.npz'}"]
    command += [f"--zero_shot={tmp_path / 'prompts.npz'}"]
    assert main([*command, f"--json={tmp_path / 'm.json'}"]) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    assert set(found) == {"accuracy@1", "accuracy@5"}
    assert found["accuracy@1"] > 50
    assert "accuracy@5 [%]" in capsys.readouterr().out

    np.savez(tmp_path / "narrow.npz", **{"text": np.ones((2, 3)), "class": [0, 1], "class_name": names[:2]})
    for prompts, message in (("narrow.npz", "(10 "), ("none.npz", "no such file")):
        assert main([*command[:-1], f"--zero_shot={tmp_path / prompts}"]) == 2
        assert message in capsys.readouterr().err
    np.savez(tmp_path / "narrow.npz", **{"text": np.ones((12, 3)), "class": range(12), "class_name": names})
    (tmp_path / "p.txt").write_text("a {}\n" + "\n".join(names))
    command[3] = f"--data=embeddings:{tmp_path / 'all.npz'}"
    assert main(command) == 2
    assert "no labels to classify" in capsys.readouterr().err
    command[3] = f"--data=embeddings:{tmp_path / 'items.npz'}"
    for prompts, message in (("narrow.npz", "3 numbers"), ("p.txt", "--text_encoder")):
        assert main([*command[:-1], f"--zero_shot={tmp_path / prompts}"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_on_pixels_and_words(raw_run, tmp_path, capsys):
    workdir, _ = raw_run
    rows = [["image", "label"]]
    for k in range(9):
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[..., k % 3] = 200 + k
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        rows.append([f"{k}.png", ("red", "green", "blue")[k % 3]])
    with open(tmp_path / "l.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "p.txt").write_text("a {} circle\na {} square\nred\ngreen\nBlue\n")
    command = ["evaluate", f"--workdir={workdir}", f"--data=labelled:{tmp_path / 'l.csv'}"]
    assert main([*command, f"--zero_shot={tmp_path / 'p.txt'}", f"--json={tmp_path / 'm.json'}"]) == 0
    assert list(json.loads((tmp_path / "m.json").read_text())) == [
        "accuracy@1"
    ]  # of three classes five are always right
    assert "33.3" in capsys.readouterr().out
    assert main(["evaluate", f"--workdir={workdir}", f"--zero_shot={tmp_path / 'p.txt'}"]) == 2
    assert "(64 " in capsys.readouterr().err  # the synthetic set's own classes
    np.savez(
        tmp_path / "p.npz", **{"text": np.ones((3, 4)), "class": [0, 1, 2], "class_name": ["red", "green", "blue"]}
    )
    assert main([*command, f"--zero_shot={tmp_path / 'p.npz'}"]) == 2
    assert "p.npz" in capsys.readouterr().err


def test_prompts_keep_the_order_of_their_file(tmp_path):
    (tmp_path / "p.txt").write_text("zebra\nant\n")
    assert data.load_prompts(tmp_path / "p.txt").classes == ("zebra", "ant")
