"""Orbax logs nothing to the terminal of the command line; a program that uses the library keeps its logging."""

import logging
import pathlib
import warnings

import orbax.checkpoint
import pytest

from alignment_jax.cli import main as cli
from alignment_jax.cli.terminal_noise import one_line_warnings, without_orbax_logs
from alignment_jax.train.checkpoint import Checkpoints

ORBAX = str(pathlib.Path(orbax.checkpoint.__file__).parent / "checkpoint_manager.py")


def logs(logger, pathname):
    logger.handle(logger.makeRecord(logger.name, logging.ERROR, pathname, 1, "message of %s", (pathname,), None))


@pytest.fixture
def absl(caplog):
    logger = logging.getLogger("absl")
    before = (logger.level, logger.disabled, list(logger.filters), list(logger.handlers))
    yield logger
    assert (logger.level, logger.disabled, list(logger.filters), list(logger.handlers)) == before


def test_only_orbax_is_silenced_and_only_for_a_while(absl, caplog):
    with without_orbax_logs():
        logs(absl, ORBAX)
        logs(absl, "/site-packages/grain/python.py")
    assert [record.pathname for record in caplog.records] == ["/site-packages/grain/python.py"]
    with pytest.raises(KeyError), without_orbax_logs():
        raise KeyError
    logs(absl, ORBAX)
    assert caplog.records[-1].pathname == ORBAX


def test_a_program_that_saves_checkpoints_keeps_its_logging(tmp_path, absl, caplog):
    level = absl.level
    absl.setLevel(logging.INFO)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.close()
    found = [record for record in caplog.records if "orbax" in record.pathname]
    absl.setLevel(level)
    assert found


def test_a_command_runs_without_orbax_in_its_terminal(absl, caplog, monkeypatch):
    class Command:
        def define(self, values, arguments):
            pass

        def run(self, values):
            logs(absl, ORBAX)
            return 0

    entry = next(iter(cli.COMMANDS))
    monkeypatch.setattr(type(cli.COMMANDS[entry]), "load", lambda self: Command())
    assert cli.main([entry]) == 0
    assert caplog.records == []


def test_a_warning_is_one_line_without_a_path(capsys):
    with one_line_warnings():
        warnings.warn_explicit("look\nhere", UserWarning, "/usr/lib/site-packages/other/thing.py", 3)
        warnings.warn_explicit("odd tag", UserWarning, "/usr/lib/site-packages/PIL/Image.py", 3, module="PIL.Image")
    assert capsys.readouterr().err == "alignment-jax: warning: look here\n"
