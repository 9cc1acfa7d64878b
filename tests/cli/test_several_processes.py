"""The train command in several processes: results of one process; killed and resumed with another number of them."""

import io
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from several_processes import Processes
from small_runs import load_config, write_run

from alignment_jax.cli.main import main
from alignment_jax.train.checkpoint import Checkpoints, abstract, checksums
from alignment_jax.train.loop import initial_state
from alignment_jax.train.step import batch_mesh


def rows_of(workdir):
    """The complete rows so far; the last one may still be in the middle of its write."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def assert_same_run(found, expected):
    """Every step once, and each number of it to float tolerance; recalls of a few items may swap a neighbour."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for name in ("train/loss", "train/gradient_norm"):
        np.testing.assert_allclose(
            [row[name] for row in found], [row[name] for row in expected], rtol=2e-3, err_msg=name
        )


def restored_on(workdir, devices):
    """Step and checksums of the newest checkpoint, restored onto these devices by this one process."""
    from alignment_jax.assembly.build import build
    from alignment_jax.train.loop import evaluation_variables

    experiment = build(load_config(workdir.parent, "alignment", epochs=5)).experiment
    sharding = jax.sharding.NamedSharding(batch_mesh(devices), jax.sharding.PartitionSpec())
    checkpoints = Checkpoints(workdir / "checkpoints")
    restored = checkpoints.restore(abstract(initial_state(experiment), sharding))
    checkpoints.close()
    assert restored is not None
    for leaf in jax.tree.leaves(evaluation_variables(restored.state)):
        assert leaf.sharding.device_set == set(devices)
    return restored.step, checksums(restored.state)


@pytest.mark.slow
def test_four_processes_one_killed_resumed_by_two_equal_one_process(tmp_path):
    arguments = write_run(tmp_path, "alignment", epochs=5)
    arguments += ["--config.checkpoint.interval=4 steps", "--config.eval.interval=12 steps"]
    assert main([*arguments, "--quiet", "--config.train.devices=1", "--workdir", str(tmp_path / "one")]) == 0
    workdir = tmp_path / "several"
    command = ["-m", "alignment_jax", *arguments, "--workdir", workdir]
    with Processes(command, tmp_path, count=4) as run:
        run.wait_until(lambda: len(rows_of(workdir)) >= 5)
        run.send(2, signal.SIGKILL)
        statuses = run.wait()
        assert statuses == [1, 1, -signal.SIGKILL, 1], "\n".join(log.read_text() for log in run.logs)
        assert all("has lost the others" in run.last_line(i) for i in (0, 1, 3))
    assert len(rows_of(workdir)) < 25
    assert restored_on(workdir, jax.devices()[:1]) == restored_on(workdir, jax.devices()[:4])
    (tmp_path / "resumed").mkdir()
    with Processes(command, tmp_path / "resumed", count=2, devices=2) as run:
        assert run.wait() == [0, 0], "\n".join(log.read_text() for log in run.logs)
    assert "resumed at step" in (workdir / "log.txt").read_text()
    assert_same_run(rows_of(workdir), rows_of(tmp_path / "one"))
    assert (workdir / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alignment", "classification"])
def test_two_processes_make_the_report_of_one(kind, tmp_path):
    """Of the same checkpoint: the command is repeated after the run has finished."""
    items = 6600 if kind == "alignment" else 66  # ranks of 1,100 items are divided
    arguments = write_run(tmp_path, kind, epochs=1, n=items)
    arguments += ["--config.input.batch_size=512", "--config.eval.batch_size=400", "--config.report.gallery=3"]
    if kind == "alignment":
        arguments += ["--config.eval.hubness=auto", "--config.eval.bank_size=1000"]
    else:
        arguments += ["--config.eval.batch_size=4"]
    workdir = tmp_path / "w"
    assert main([*arguments, "--quiet", "--workdir", str(workdir)]) == 0
    names = ["results.json", "report.json", *(["query_bank.npz", "gallery.npz"] if kind == "alignment" else [])]
    before = {name: (workdir / name).read_bytes() for name in names}
    for name in (*names, "report.html"):
        (workdir / name).unlink()
    with Processes(["-m", "alignment_jax", *arguments, "--workdir", workdir], tmp_path, count=2) as run:
        assert run.wait() == [0, 0], "\n".join(log.read_text() for log in run.logs)
    for name, content in before.items():
        if name.endswith(".json"):
            found, expected = json.loads((workdir / name).read_text()), json.loads(content)
            found.pop("cost", None), expected.pop("cost", None)
            assert found == expected, name
        else:
            with np.load(workdir / name) as found, np.load(io.BytesIO(content)) as expected:
                for key in expected:
                    np.testing.assert_array_equal(found[key], expected[key], err_msg=f"{name}, {key}")
    assert (workdir / "report.html").is_file()
    assert "report:" in run.logs[0].read_text()
    assert "report:" not in run.logs[1].read_text()


@pytest.mark.slow
def test_two_processes_stopped_by_sigterm_are_resumed_by_one(tmp_path):
    arguments = write_run(tmp_path, "classification", epochs=40)
    arguments += ["--config.checkpoint.interval=50 steps", "--config.eval.interval=100 steps"]
    assert main([*arguments, "--quiet", "--config.train.devices=1", "--workdir", str(tmp_path / "one")]) == 0
    workdir = tmp_path / "several"
    command = ["-m", "alignment_jax", *arguments, "--workdir", workdir]
    with Processes(command, tmp_path, count=2) as run:
        run.wait_until(lambda: len(rows_of(workdir)) >= 8)
        run.send(1, signal.SIGTERM)  # one gets the signal, all save the same step
        assert run.wait() == [143, 143], "\n".join(log.read_text() for log in run.logs)
    assert f"SIGTERM at step {rows_of(workdir)[-1]['step']}" in (workdir / "log.txt").read_text()
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    subprocess.run([sys.executable, *map(str, command)], env=environment, check=True, capture_output=True)
    assert_same_run(rows_of(workdir), rows_of(tmp_path / "one"))


@pytest.mark.slow
def test_machines_that_share_only_a_bucket_resume_from_it(tmp_path):
    """As on a pod slice: each process has its own home folder, and after a preemption all of them are new."""
    arguments = write_run(tmp_path, "classification", epochs=12)
    workdir = tmp_path / "bucket" / "w"
    command = ["-m", "alignment_jax", *arguments, "--workdir", f"file://{workdir}"]
    (tmp_path / "first").mkdir()
    # Only fixed names below the run's folder: a recursive glob fails where a checkpoint is renamed meanwhile.
    saved = ".cache/alignment_jax/workdirs/*/checkpoints/last/6"
    with Processes(command, tmp_path / "first", count=2, homes=True) as run:
        run.wait_until(lambda: list((tmp_path / "first" / "home0").glob(saved)))
        run.send(1, signal.SIGTERM)
        assert run.wait() == [143, 143], "\n".join(log.read_text() for log in run.logs)
    assert 6 <= rows_of(workdir)[-1]["step"] < 60
    assert not list((tmp_path / "first" / "home1").rglob("checkpoints"))
    (tmp_path / "second").mkdir()
    with Processes(command, tmp_path / "second", count=2, homes=True) as run:
        assert run.wait() == [0, 0], "\n".join(log.read_text() for log in run.logs)
    assert "resumed at step" in (workdir / "log.txt").read_text()
    assert main([*arguments, "--quiet", "--config.train.devices=1", "--workdir", str(tmp_path / "one")]) == 0
    assert_same_run(rows_of(workdir), rows_of(tmp_path / "one"))
    assert (workdir / "report.html").is_file()


@pytest.mark.slow
def test_a_workdir_in_use_ends_all_processes(tmp_path):
    from alignment_jax.train.workdir import locked

    arguments = write_run(tmp_path, "alignment")
    command = ["-m", "alignment_jax", *arguments, "--workdir", tmp_path / "w"]
    with locked(tmp_path / "w"), Processes(command, tmp_path, count=2) as run:
        assert run.wait() == [2, 2], "\n".join(log.read_text() for log in run.logs)
        for i in (0, 1):
            assert f"{tmp_path / 'w'} is in use" in run.last_line(i)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2", "--process_id=0"], "--coordinator_address is missing"),
        (["--coordinator_address=localhost:1", "--num_processes=2", "--process_id=2"], "cannot be connected"),
    ],
)
def test_flags_of_processes_are_checked(flags, message, tmp_path, capsys):
    arguments = write_run(tmp_path, "alignment")
    assert main([*arguments, "--workdir", str(tmp_path / "w"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
