"""Hubness correction as a user gets it: the bank of a run, evaluate, embed, and the run's own setting."""

import json
import shutil

import numpy as np
import pytest

from alignment_jax.cli.main import main

ASKED = "--hubness=nnn:k=4,strength=0.6"


def evaluate(workdir, out, *more):
    assert main(["evaluate", "--workdir", str(workdir), "--json", str(out), *more]) == 0
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def corrected(frozen_run, tmp_path_factory):
    """Metrics of `evaluate` with a correction."""
    return evaluate(frozen_run[0], tmp_path_factory.mktemp("hubness") / "m.json", ASKED)


def test_evaluate_gives_plain_and_corrected_metrics(frozen_run, corrected, tmp_path, capsys):
    workdir, _ = frozen_run
    with np.load(workdir / "query_bank.npz", allow_pickle=False) as bank:
        assert (bank["a"].shape, bank["b"].shape) == ((40, 64), (80, 64))
        assert str(bank["correction"]) == "none"
    plain = json.loads((workdir / "results.json").read_text())["test"]
    assert {key: corrected[key] for key in plain} == plain
    assert corrected.keys() == plain.keys() | {f"corrected/{key}" for key in plain}
    assert evaluate(workdir, tmp_path / "m.json", ASKED) == corrected
    assert "test, corrected" in capsys.readouterr().out
    assert evaluate(workdir, tmp_path / "m.json", "--nohubness") == plain


@pytest.mark.slow
def test_embed_writes_vectors_whose_inner_product_is_the_corrected_score(frozen_run, corrected, tmp_path, capsys):
    workdir, _ = frozen_run
    found = {}
    for name, more in (("plain", []), ("folded", [ASKED]), ("own", ["--hubness"])):
        assert main(["embed", "--workdir", str(workdir), "--out", str(tmp_path / f"{name}.npz"), *more]) == 0
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as arrays:
            found[name] = dict(arrays)
    assert "nnn:k=16,strength=0.5" in capsys.readouterr().out  # this run has none, so the flag alone takes the default
    plain, folded = found["plain"], found["folded"]
    assert folded["image"].shape[1] == plain["image"].shape[1] + 2
    with np.load(workdir / "query_bank.npz", allow_pickle=False) as bank:
        largest = [
            np.sort(z @ queries.T, axis=1)[:, -4:].mean(axis=1)
            for z, queries in ((plain["image"], bank["b"]), (plain["text"], bank["a"]))
        ]
    scores = plain["image"] @ plain["text"].T - 0.6 * (largest[0][:, None] + largest[1])
    # Sums of 66 products of vectors of length 1, in another order.
    np.testing.assert_allclose(folded["image"] @ folded["text"].T, scores, atol=66 * np.finfo(np.float32).eps)
    test = np.flatnonzero(folded["split"] == "test")
    rows = np.isin(folded["text_to_image"], test)
    best = test[np.argmax(folded["text"][rows] @ folded["image"][test].T, axis=1)]
    assert corrected["corrected/b2a_R@1"] == pytest.approx(100 * np.mean(best == folded["text_to_image"][rows]))


def test_one_side_gets_the_same_vectors(frozen_run, tmp_path):
    workdir, arguments = frozen_run
    data = next(word for word in arguments if "embeddings:" in word).rpartition("embeddings:")[2]
    with np.load(data, allow_pickle=False) as arrays:
        np.save(tmp_path / "text.npy", arrays["text"])
    for name, more in (("both", []), ("one", ["--data", f"latents:{tmp_path}/text.npy,side=b"])):
        assert main(["embed", "--workdir", str(workdir), "--out", str(tmp_path / f"{name}.npz"), ASKED, *more]) == 0
    both, one = (np.load(tmp_path / f"{name}.npz")["text"] for name in ("both", "one"))
    order = np.lexsort(both.T), np.lexsort(one.T)
    np.testing.assert_allclose(both[order[0]], one[order[1]], atol=1e-5)


@pytest.mark.slow
def test_the_setting_of_a_run_changes_without_a_training(frozen_run, corrected, tmp_path, capsys):
    workdir, arguments = frozen_run
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    again = [word if word != str(workdir) else str(copy) for word in arguments]
    assert main([*again, f"--config.eval.{ASKED.removeprefix('--')}"]) == 0
    assert json.loads((copy / "results.json").read_text())["test"] == corrected
    assert evaluate(copy, tmp_path / "m.json") == corrected
    assert (copy / "metrics.jsonl").read_bytes() == (workdir / "metrics.jsonl").read_bytes()
    page = (copy / "report.html").read_text()
    assert "test, corrected" in page
    assert "skewness of 10-occurrence" in page
    assert main([*again, "--config.eval.hubness=auto"]) == 0
    assert "hubness correction none (10 items of val" in capsys.readouterr().out
    assert "hubness correction nnn:k=4,strength=0.6" in (copy / "log.txt").read_text()


@pytest.mark.parametrize("change", ["missing", "another step", "damaged"])
def test_a_bank_that_cannot_be_used_is_named_with_the_next_step(change, frozen_run, tmp_path, capsys):
    workdir, _ = frozen_run
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "query_bank.npz"
    if change == "missing":
        path.unlink()
    elif change == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    else:
        with np.load(path, allow_pickle=False) as arrays:
            np.savez(path, **{**arrays, "step": arrays["step"] + 1})
    assert main(["evaluate", "--workdir", str(tmp_path / "run"), ASKED]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "query_bank.npz" in line
    assert "train command" in line


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--hubness=nnn:k=0"], "--hubness"),
        (["--hubness", "--zero_shot=prompts.txt"], "--hubness"),
        (["--config.eval.hubness=cls"], "eval.hubness"),
        (["--config.eval.hubness=nnn", "--config.eval.bank_size=0"], "eval.bank_size"),
        (["--config.eval.bank_size=-1"], "eval.bank_size"),
    ],
)
def test_a_wrong_setting_is_one_line(more, named, frozen_run, capsys):
    workdir, arguments = frozen_run
    command = arguments if more[0].startswith("--config") else ["evaluate", "--workdir", str(workdir)]
    assert main([*command, *more]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert named in line
