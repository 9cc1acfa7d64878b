"""Processes that take turns, because other work may share the cores: one for each side of a comparison.

A side's script prepares itself and calls `serve`; the script that compares starts `Side`s and runs them alternately.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def resident(name: str = "VmRSS") -> int:
    """A line of /proc/self/status in bytes: VmRSS is the resident memory, VmHWM its peak."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = [line for line in file if line.startswith(f"{name}:")]
    return int(found[0].split()[1]) * 1024


def forget_peak() -> None:
    """The peak counts from here."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def serve(first: dict[str, Any], run: Callable[[int], Any]) -> None:
    """Prints `first`, then for every number on stdin the times of as many steps.

    Args:
      first: results of the preparation.
      run: takes this many steps, and returns their results when they are done.
    """
    forget_peak()
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        steps = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        results = run(steps)
        found = {"cpu": (time.process_time() - cpu) / steps, "wall": (time.perf_counter() - wall) / steps}
        print(json.dumps({**found, "results": results, "peak": resident("VmHWM")}), flush=True)


class Side:
    """A process of one side: `first` holds what it has printed before the first turn, `turns` what it has since."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        # Threads that spin while they wait would count as work.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive", **(environment or {})}
        self.turns: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.first = self._read()

    def run(self, steps: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.turns.append(self._read())
        return self.turns[-1]

    def close(self) -> None:
        self.process.communicate()

    def median(self, key: str) -> float:
        return statistics.median(turn[key] for turn in self.turns)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("a side has ended; its error is above")


def alternate(sides: Sequence[Side], *, rounds: int, steps: int) -> None:
    """Every side once a round, in turn forwards and backwards."""
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            side.run(steps)
