"""Ctrl-C and SIGTERM ask a run to save and leave; the second Ctrl-C does not ask."""

import os
import signal

import pytest

from alignment_jax.cli import compare as compare_command
from alignment_jax.cli import train as train_command
from alignment_jax.cli.main import main
from alignment_jax.compare.training import ComparisonPreempted
from alignment_jax.train import preemption as module
from alignment_jax.train.preemption import preemption


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_is_a_request_and_the_handlers_come_back(number, name, capsys):
    before = signal.getsignal(number)
    with preemption() as stop:
        assert not stop(0, 1)
        send(number)
        assert stop(1, 2)
        assert stop.by == name
    assert signal.getsignal(number) is before
    assert ("Ctrl-C again" in capsys.readouterr().err) == (number == signal.SIGINT)


@pytest.mark.parametrize("saved", [False, True])
def test_a_second_ctrl_c_ends_at_once_and_reports_the_checkpoint(saved, monkeypatch, capsys):
    statuses = []
    monkeypatch.setattr(module.os, "_exit", statuses.append)
    with preemption(lambda: saved):
        send(signal.SIGINT)
        assert not statuses
        send(signal.SIGINT)
    assert statuses == [130]
    assert capsys.readouterr().err.count("no checkpoint exists") == (0 if saved else 2)


@pytest.fixture
def configured(tmp_path, repository):
    data = "synthetic:train=8,val=2,test=2,size=16"
    return ["--config", f"{repository}/configs/quickstart.py:runlocal,data={data}", "--workdir", str(tmp_path / "w")]


def test_train_reports_an_interruption_before_the_first_checkpoint(configured, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "build", interrupted)
    assert main(["train", *configured]) == 130
    assert "no checkpoint" in capsys.readouterr().err
    monkeypatch.setattr(train_command, "holds_run", interrupted)
    (tmp_path / "w" / "checkpoints" / "last" / "7").mkdir(parents=True)
    assert main(["train", *configured]) == 130
    assert "no checkpoint" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ComparisonPreempted("SIGTERM"), 143, ""),
        (ComparisonPreempted("Ctrl-C"), 130, ""),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_compare_ends_likewise(error, status, message, configured, monkeypatch, capsys):
    def stopped(*arguments, **options):
        raise error

    monkeypatch.setattr(compare_command, "compare", stopped)
    assert main(["compare", *configured, "--methods=baseline"]) == status
    assert message in capsys.readouterr().err
