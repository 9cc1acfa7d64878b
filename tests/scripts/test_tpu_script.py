"""`scripts/tpu.sh` against a `gcloud` that only records its arguments."""

import os
import pathlib
import shutil
import stat
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "tpu.sh"
# Answers `ssh` with the exit statuses in the file `statuses`, one a call, and `describe` with the state in `state`, or
# with failure where that is a message.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$HERE/calls"
case "$4" in
  describe)
    case "$(cat "$HERE/state")" in ERROR*) cat "$HERE/state" >&2; exit 1 ;; esac
    cat "$HERE/state"
    ;;
  create) [ ! -e "$HERE/no_room" ] ;;
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

    def run(*arguments, statuses=(0,), state="READY", script=SCRIPT, **variables):
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        (tmp_path / "state").write_text(state)
        environment = {
            **os.environ,
            "PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}",
            "HERE": str(tmp_path),
            **{"TPU_NAME": "align", "TPU_ZONE": "us-west4-a", "TPU_TYPE": "v5litepod-8", "TPU_RETRY_SECONDS": "0"},
            **variables,
        }
        command = ["bash", str(script), *arguments]
        found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)
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


def test_a_preempted_slice_is_created_again_and_resumes(run):
    status, error, calls = run("keep", "--workdir", "gs://bucket/run", statuses=(255, 0), state="PREEMPTED")
    assert status == 0
    assert verbs(calls) == ["ssh", "describe", "delete", "create", "scp", "ssh", "ssh"]
    assert "--spot" in calls[3]
    assert calls[0] == calls[-1]
    assert "PREEMPTED" in error


def test_a_slice_that_is_gone_is_created_again_with_the_files_it_held(run, tmp_path):
    (tmp_path / "latents.npz").write_bytes(b"")
    missing = "ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: Resource 'projects/p/nodes/align' was not found"
    status, _, calls = run("keep", "--copy", "latents.npz", "--workdir", "w", statuses=(255, 0), state=missing)
    assert status == 0
    assert verbs(calls) == ["scp", "ssh", "describe", "create", "scp", "ssh", "scp", "ssh"]
    assert calls[0] == calls[6] == f"scp {tmp_path}/latents.npz align:alignment_jax/ --worker=all --zone=us-west4-a"
    assert "--copy" not in calls[1]


def test_a_failure_of_gcloud_is_no_missing_slice(run, tmp_path):
    message = "ERROR: (gcloud.compute.tpus.tpu-vm.describe) There was a problem refreshing your current auth tokens"
    status, error, calls = run("keep", statuses=(255, 0), state=message)
    assert (status, verbs(calls)) == (1, ["ssh", "describe"])
    assert message in error
    assert run("status", state=message)[0] == 1


def test_create_is_tried_again_only_while_gcloud_works(run, tmp_path):
    (tmp_path / "no_room").touch()
    gcloud = tmp_path / "bin" / "gcloud"
    login = "[ $(grep -c describe $HERE/calls) -lt 3 ] || echo 'ERROR: log in' >$HERE/state"
    gcloud.write_text(gcloud.read_text().replace("  describe)\n", f"  describe)\n    {login}\n"))
    status, error, calls = run("keep", statuses=(255,), state="ERROR: NOT_FOUND")
    assert (status, verbs(calls)) == (1, ["ssh", "describe", "create", "describe", "create", "describe"])
    assert "log in" in error


def test_copy_takes_files_from_where_it_is_called(run, tmp_path):
    (tmp_path / "my pairs.csv").write_text("")
    status, _, (call,) = run("copy", "my pairs.csv")
    assert status == 0
    assert f"scp {tmp_path}/my pairs.csv align:" in call
    status, error, calls = run("copy", "other.csv")
    assert (status, len(calls)) == (2, 1)
    assert f"{tmp_path}/other.csv: no such file" in error


def test_install_warns_of_files_that_it_does_not_send_and_cleans_up(run, tmp_path):
    folder, scratch = tmp_path / "checkout", tmp_path / "scratch"
    (folder / "scripts").mkdir(parents=True)
    scratch.mkdir()
    script = pathlib.Path(shutil.copy(SCRIPT, folder / "scripts"))
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    status, error, _ = run("install", script=script, TMPDIR=str(scratch))
    assert (status, "warning" in error) == (0, False)
    (folder / "edited.py").write_text("")
    status, error, _ = run("install", script=script, TMPDIR=str(scratch))
    assert status == 0
    assert "warning: 1 files" in error
    assert list(scratch.iterdir()) == []


def test_a_run_that_failed_by_itself_is_not_repeated(run):
    status, _, calls = run("keep", "--workdir", "gs://bucket/run", statuses=(2,))
    assert status == 2
    assert verbs(calls) == ["ssh", "describe"]


def test_a_run_that_was_stopped_and_saved_resumes(run):
    status, _, calls = run("keep", statuses=(143, 0))
    assert status == 0
    assert verbs(calls) == ["ssh", "describe", "ssh"]


@pytest.mark.parametrize("arguments", [(), ("fly",)])
def test_unknown_commands_show_the_usage(run, arguments):
    status, error, calls = run(*arguments)
    assert (status, calls) == (2, [])
    assert "scripts/tpu.sh create" in error


def test_a_missing_name_is_an_error(run):
    status, error, calls = run("train", TPU_NAME="")
    assert (status, calls) == (2, [])
    assert "TPU_NAME" in error


def test_a_dry_run_calls_nothing(run):
    status, error, calls = run("create", TPU_DRY_RUN="1")
    assert (status, calls) == (0, [])
    assert "tpu-vm create align" in error
