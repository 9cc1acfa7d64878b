"""`scripts/tpu.sh` against a `gcloud` that only writes down what it was asked for."""

import os
import pathlib
import stat
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "tpu.sh"
# Answers `ssh` with the exit statuses in the file `statuses`, one a call, and `describe` with the state in `state`.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$HERE/calls"
case "$4" in
  describe) cat "$HERE/state" ;;
  ssh)
    case "$*" in *"alignment-jax train"*) ;; *) exit 0 ;; esac
    status=$(head -n 1 "$HERE/statuses")
    sed -i 1d "$HERE/statuses"
    exit "$status"
    ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """(arguments, statuses of the trainings, state of the slice) -> (exit status, standard error, calls of gcloud)."""
    binary = tmp_path / "bin" / "gcloud"
    binary.parent.mkdir()
    binary.write_text(GCLOUD)
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)

    def run(*arguments, statuses=(0,), state="READY", **variables):
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        (tmp_path / "state").write_text(state)
        environment = {
            **os.environ,
            "PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}",
            "HERE": str(tmp_path),
            **{"TPU_NAME": "align", "TPU_ZONE": "us-west4-a", "TPU_TYPE": "v5litepod-8", "TPU_RETRY_SECONDS": "0"},
            **variables,
        }
        command = ["bash", str(SCRIPT), *arguments]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        calls = tmp_path / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return found.returncode, found.stderr, [line.removeprefix("compute tpus tpu-vm ") for line in lines]

    return run


def verbs(calls):
    return [call.split()[0] for call in calls]


def test_create_names_the_image_of_the_chip(run):
    status, _, calls = run("create", "--spot", TPU_TYPE="v6e-16")
    assert status == 0
    expected = "create align --accelerator-type=v6e-16 --version=v2-alpha-tpuv6e --spot --zone=us-west4-a"
    assert calls == [expected]


def test_train_runs_the_same_command_on_every_worker(run):
    status, _, (call,) = run("train", "--config", "configs/quickstart.py:data=a b", "--workdir", "gs://bucket/run")
    assert status == 0
    assert "--worker=all" in call
    assert (
        r"alignment-jax train --config configs/quickstart.py:data=a\ b --workdir gs://bucket/run --distributed" in call
    )


def test_install_sends_this_checkout_and_leaves_the_image_alone(run):
    status, _, calls = run("install")
    assert status == 0
    assert verbs(calls) == ["scp", "ssh"]
    assert ".venv" in calls[1]
    assert "train,tpu" in calls[1]


def test_a_preempted_slice_is_created_anew_and_goes_on(run):
    status, error, calls = run("keep", "--workdir", "gs://bucket/run", statuses=(255, 0), state="PREEMPTED")
    assert status == 0
    assert verbs(calls) == ["ssh", "describe", "delete", "create", "scp", "ssh", "ssh"]
    assert "--spot" in calls[3]
    assert calls[0] == calls[-1]
    assert "PREEMPTED" in error


def test_a_run_that_failed_by_itself_is_not_repeated(run):
    status, _, calls = run("keep", "--workdir", "gs://bucket/run", statuses=(2,))
    assert status == 2
    assert verbs(calls) == ["ssh", "describe"]


def test_a_run_that_was_told_to_stop_and_saved_goes_on(run):
    status, _, calls = run("keep", statuses=(143, 0))
    assert status == 0
    assert verbs(calls) == ["ssh", "describe", "ssh"]


@pytest.mark.parametrize("arguments", [(), ("fly",)])
def test_unknown_commands_show_the_usage(run, arguments):
    status, error, calls = run(*arguments)
    assert (status, calls) == (2, [])
    assert "scripts/tpu.sh create" in error


def test_a_missing_name_is_said(run):
    status, error, calls = run("train", TPU_NAME="")
    assert (status, calls) == (2, [])
    assert "TPU_NAME" in error


def test_a_dry_run_calls_nothing(run):
    status, error, calls = run("create", TPU_DRY_RUN="1")
    assert (status, calls) == (0, [])
    assert "gcloud compute tpus tpu-vm create align" in error
