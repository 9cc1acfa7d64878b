"""`alignment-jax compare` and `report` as a user types them: resumed after a kill, extended, refused."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest

from alignment_jax.cli.main import main
from alignment_jax.core.jsonl import read_rows

pytestmark = pytest.mark.slow

TINY = (
    "--quiet", "--stress=none", "--config.input.batch_size=16", "--config.train.devices=1", "--config.model.dim=8",
    "--config.train.duration=4 epochs", "--config.eval.interval=2 epochs",
)  # fmt: skip

# The program kills itself right after its nth run is on disk, so the kill falls at one place on any machine.
KILLED = """
import os, signal, sys
from alignment_jax.cli.main import main
from alignment_jax.compare.run_records import RUNS
from alignment_jax.core import jsonl

append_row = jsonl.append_row


def append_and_die(path, record):
    append_row(path, record)
    if path.name == RUNS and len(jsonl.read_rows(path)) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)


jsonl.append_row = append_and_die
main(sys.argv[2:])
"""


def arguments(repository, embeddings, workdir, *more, methods="baseline,smoothing", seeds=2):
    config = f"{repository}/configs/flickr8k_frozen.py:data=embeddings:{embeddings}"
    return [
        "compare",
        "--config",
        config,
        "--methods",
        methods,
        "--seeds",
        str(seeds),
        "--workdir",
        str(workdir),
        *TINY,
        *more,
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository, embeddings):
    """A comparison that was killed, then finished by the same command: (workdir, arguments, lines at the kill)."""
    workdir = tmp_path_factory.mktemp("comparisons") / "killed"
    # bss cannot train its seeds together: a kill falls between two of its runs.
    command = arguments(repository, embeddings, workdir, methods="baseline,bss,smoothing", seeds=3)
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    found = subprocess.run([sys.executable, "-c", KILLED, "4", *command], cwd=repository, env=environment)
    assert found.returncode == -signal.SIGKILL
    runs = workdir / "runs.jsonl"
    before = read_rows(runs)
    assert len(before) == 4
    with open(runs, "ab") as file:  # as after a kill in the middle of a write
        file.write(b'{"method": "bss", "seed"')
    assert main(command) == 0
    return workdir, command, before


@pytest.mark.slow
def test_after_a_kill_the_same_command_completes_and_nothing_runs_twice(finished):
    workdir, _, before = finished
    runs = read_rows(workdir / "runs.jsonl")
    assert runs[: len(before)] == before  # finished runs are unchanged
    assert sorted((run["method"], run["seed"]) for run in runs) == [
        (method, seed) for method in ("baseline", "bss", "smoothing") for seed in range(3)
    ]
    about = json.loads((workdir / "comparison.json").read_text())
    assert about["complete"]
    assert (about["methods"], about["baseline"]) == (["baseline", "bss", "smoothing"], "baseline")
    assert not (workdir / "compiled").exists()
    assert not (workdir / "unfinished").exists()


@pytest.mark.slow
def test_a_record_is_complete_for_the_report(finished):
    workdir, _, _ = finished
    for run in read_rows(workdir / "runs.jsonl"):
        assert run["test"]["rsum"] > 0
        assert run["val"]["rsum"] > 0
        assert run["cost"]["steps"] > 0
        assert (workdir / run["history"]).is_file()
        assert (workdir / run["items"]).is_file()
        assert (run["embeddings"] is not None) == (run["seed"] == 0)
        assert "calibration" in run["analysis"]
    smoothing = next(run for run in read_rows(workdir / "runs.jsonl") if run["method"] == "smoothing")
    assert smoothing["settings"]["smoothing.start"] == 0.1


@pytest.mark.slow
def test_results_files_hold_every_run(finished):
    workdir, _, _ = finished
    runs = read_rows(workdir / "runs.jsonl")
    with open(workdir / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], int(row["seed"]), float(row["test/rsum"])) for row in rows] == [
        (run["method"], run["seed"], run["test"]["rsum"]) for run in runs
    ]
    found = json.loads((workdir / "results.json").read_text())
    by_method = {row["method"]: row for row in found["summary"]}
    values = [run["test"]["rsum"] for run in runs if run["method"] == "bss"]
    base = [run["test"]["rsum"] for run in runs if run["method"] == "baseline"]
    assert by_method["bss"]["mean"] == pytest.approx(sum(values) / 3)
    assert by_method["bss"]["difference"] == pytest.approx(sum(values) / 3 - sum(base) / 3)
    low, high = by_method["bss"]["low"], by_method["bss"]["high"]
    assert low <= by_method["bss"]["difference"] <= high
    assert by_method["baseline"]["verdict"] is None
    latex = (workdir / "results.tex").read_text()
    assert latex.count("\\\\\n") == 4
    assert "smoothing" in latex


@pytest.mark.slow
def test_seeds_and_fractions_may_be_added(finished, capsys):
    workdir, command, _ = finished
    before = (workdir / "runs.jsonl").read_bytes()
    assert main([*command, "--fractions=0.5,1"]) == 0
    assert (workdir / "runs.jsonl").read_bytes().startswith(before)
    runs = read_rows(workdir / "runs.jsonl")
    assert sum(run["fraction"] == 0.5 for run in runs) == 9
    assert "50 % of" in capsys.readouterr().out
    page = (workdir / "report.html").read_bytes()
    (workdir / "report.html").unlink()
    assert main(["report", "--workdir", str(workdir)]) == 0
    assert (workdir / "report.html").read_bytes() == page


@pytest.mark.slow
def test_another_comparison_is_refused_and_nothing_is_touched(finished, capsys):
    workdir, command, _ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    for change, message in (
        ("--config.optimizer.learning_rate=0.5", "optimizer.learning_rate: 0.001 -> 0.5"),
        ("--stress=full", "stress: none -> full"),
        ("--search=3", "search: 0 -> 3"),
    ):
        assert main([*command, change]) == 2
        assert message in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.slow
def test_a_search_keeps_every_trial_and_chooses_on_val(tmp_path, repository, embeddings):
    command = arguments(repository, embeddings, tmp_path / "w", "--search=3")
    command += ["--config.search=('optimizer.learning_rate = log(1e-5, 1e-1)',)"]
    assert main(command) == 0
    trials = read_rows(tmp_path / "w" / "trials.jsonl")
    assert [(row["method"], row["trial"]) for row in trials] == [
        (m, t) for m in ("baseline", "smoothing") for t in range(3)
    ]
    assert all("test" not in row for row in trials)
    assert trials[0]["settings"] == {}
    assert trials[1]["settings"] == trials[4]["settings"]  # both methods try the same rates
    for run in read_rows(tmp_path / "w" / "runs.jsonl"):
        own = {row["trial"]: row["value"] for row in trials if row["method"] == run["method"]}
        assert own[run["trial"]] == max(own.values())
        chosen = next(row for row in trials if (row["method"], row["trial"]) == (run["method"], run["trial"]))
        assert chosen["settings"].items() <= run["settings"].items()
    assert len(json.loads((tmp_path / "w" / "results.json").read_text())["trials"]) == 6


@pytest.mark.slow
def test_closed_forms_are_not_searched(tmp_path, repository, embeddings):
    more = ("--search=3", "--config.train.duration=0 steps")
    assert main(arguments(repository, embeddings, tmp_path / "w", *more, methods="recipe", seeds=1)) == 0
    assert not (tmp_path / "w" / "trials.jsonl").exists()
    assert "recipe: nothing is trained" in (tmp_path / "w" / "log.txt").read_text()


@pytest.mark.slow
def test_a_classification_is_compared_by_accuracy(tmp_path, repository, recordings, capsys):
    config = f"{repository}/configs/av_digits_bss.py:runlocal,data=av:{recordings}"
    command = ["compare", "--config", config, "--methods", "vanilla,probabilistic", "--seeds", "2"]
    command += [
        "--workdir",
        str(tmp_path / "w"),
        "--quiet",
        "--config.train.duration=2 epochs",
        "--config.train.devices=1",
    ]
    assert main([*command, "--config.input.batch_size=8", "--config.input.fraction=1.0"]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "audio alone [%]" in shown
    about = json.loads((tmp_path / "w" / "comparison.json").read_text())
    assert (about["task"], about["metric"], about["baseline"]) == ("classification", "accuracy", "vanilla")
    runs = read_rows(tmp_path / "w" / "runs.jsonl")
    assert {run["settings"].get("sampling.name") for run in runs} == {None, "probabilistic"}
    found = json.loads((tmp_path / "w" / "results.json").read_text())["summary"]
    assert found[1]["interval_seeds_and_items"] is not None


BAD = {
    "no methods": (["--methods", ""], "--methods is missing"),
    "unknown method": (["--methods", "baseline,valls"], "unknown method 'valls'"),
    "twice": (["--methods", "vals,vals"], "names a method twice"),
    "strange name": (["--methods", "../x"], "--methods"),
    "other baseline": (["--methods", "vals,mm_ts", "--baseline", "cca"], "'cca'"),
    "no seeds": (["--methods", "vals", "--seeds", "0"], "--seeds"),
    "fractions": (["--methods", "vals", "--fractions", "0.1,2"], "--fractions: 2"),
    "not numbers": (["--methods", "vals", "--fractions", "some"], "--fractions is 'some'"),
    "mismatched": (["--methods", "vals", "--mismatched", "0.9"], "--mismatched: 0.9"),
    "stress": (["--methods", "vals", "--stress", "some"], "none|quick|full"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line_and_status_two(case, tmp_path, repository, embeddings, capsys):
    more, message = BAD[case]
    config = f"{repository}/configs/flickr8k_frozen.py:data=embeddings:{embeddings}"
    assert main(["compare", "--config", config, "--workdir", str(tmp_path / "w"), *more]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "w").exists()


def test_a_workdir_at_a_url_is_refused_in_one_line(repository, embeddings, capsys):
    assert main(arguments(repository, embeddings, "gs://bucket/compare")) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "--workdir is gs://bucket/compare" in lines[0]


def test_a_config_that_names_a_method_is_refused(tmp_path, repository, embeddings, capsys):
    config = f"{repository}/configs/flickr8k_frozen.py:method=vals,data=embeddings:{embeddings}"
    assert main(["compare", "--config", config, "--workdir", str(tmp_path / "w"), "--methods", "vals,mm_ts"]) == 2
    shown = capsys.readouterr().err
    assert "method=vals" in shown
    assert "--methods" in shown


def test_folders_that_are_no_comparison_are_refused(frozen_run, tmp_path, repository, embeddings, capsys):
    workdir, _ = frozen_run
    assert main(arguments(repository, embeddings, workdir)) == 2
    assert "holds a single run" in capsys.readouterr().err
    assert main(["report", "--workdir", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_runs_report_can_be_made_again(frozen_run, capsys):
    workdir, _ = frozen_run
    page = (workdir / "report.html").read_bytes()
    (workdir / "report.html").unlink()
    assert main(["report", "--workdir", str(workdir)]) == 0
    assert (workdir / "report.html").read_bytes() == page
    assert "rsum" in capsys.readouterr().out
