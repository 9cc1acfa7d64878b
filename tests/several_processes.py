"""Starts several processes of one run, each with its own log, and waits for all of them."""

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time


def free_port() -> int:
    """A free port below those that Linux assigns by itself: only another call of this function could take it."""
    for port in random.SystemRandom().sample(range(10_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port between 10,000 and 32,000")


class Processes:
    """`count` copies of a command with the three flags that join them.

    Args:
      arguments: after the interpreter.
      folder: for the logs.
      count: how many.
      devices: virtual devices of each.
      homes: whether each has its own home folder, as on machines without shared storage.
    """

    def __init__(self, arguments, folder: pathlib.Path, *, count: int, devices: int = 1, homes: bool = False):
        port = free_port()
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"}
        self.logs = [folder / f"process{i}.txt" for i in range(count)]
        self.running = []
        for i, log in enumerate(self.logs):
            flags = [f"--coordinator_address=127.0.0.1:{port}", f"--num_processes={count}", f"--process_id={i}"]
            if homes:
                environment["HOME"] = str(folder / f"home{i}")
            with open(log, "a") as file:
                command = [sys.executable, *map(str, arguments), *flags]
                self.running.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))

    def wait(self, *, timeout: float = 900) -> list[int]:
        """The exit statuses, in order; after `timeout` seconds everything is killed and the test fails."""
        deadline = time.monotonic() + timeout
        try:
            return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.running]
        finally:
            self.kill()

    def wait_until(self, condition, *, timeout: float = 900) -> None:
        """Returns when `condition()` holds; fails when a process ends before, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = [i for i, process in enumerate(self.running) if process.poll() is not None]
            assert not ended, f"process {ended[0]} ended early: {self.logs[ended[0]].read_text()}"
            assert time.monotonic() < deadline, f"not reached in {timeout} s: {self.logs[0].read_text()}"
            time.sleep(0.05)

    def send(self, number: int, which: signal.Signals) -> None:
        self.running[number].send_signal(which)

    def last_line(self, number: int) -> str:
        return self.logs[number].read_text().strip().splitlines()[-1]

    def kill(self) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()
