"""Several processes of one run: broadcasts, and the end of one process."""

import pathlib
import signal

import pytest
from several_processes import Processes

WORKER = pathlib.Path(__file__).parent / "process_worker.py"


@pytest.mark.slow
def test_processes_agree_and_share(tmp_path):
    with Processes([WORKER, f"talk={tmp_path}"], tmp_path, count=3, devices=2) as run:
        statuses = run.wait()
        assert statuses == [0, 0, 0], "\n".join(log.read_text() for log in run.logs)
        assert [run.last_line(i) for i in range(3)] == ["good"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize("mode", ["meet", "idle"])
def test_when_a_process_dies_the_others_say_so_and_end(victim, mode, tmp_path):
    """During a broadcast, and between broadcasts: then the heartbeat is missing after half a minute."""
    with Processes([WORKER, mode], tmp_path, count=3) as run:
        seen = "met" if mode == "meet" else "joined"
        run.wait_until(lambda: all(seen in log.read_text() for log in run.logs))
        run.send(victim, signal.SIGKILL)
        statuses = run.wait()  # raises where one still waits after a quarter of an hour; the heartbeat takes 30 s
        others = [i for i in range(3) if i != victim]
        assert [statuses[i] for i in others] == [1, 1], "\n".join(log.read_text() for log in run.logs)
        for i in others:
            assert "has lost the others" in run.last_line(i)
