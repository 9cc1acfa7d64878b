"""CPU time of each part of a long benchmark, kept beside its runs, and the parts in several processes at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from alignment_jax.report import append_row, read_rows, table, to_markdown

FILE = "cost.jsonl"
# A program of its own: JAX counts the cores when it starts.
_PINNED = """
import os, sys
os.sched_setaffinity(0, map(int, sys.argv[1].split(",")))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@contextlib.contextmanager
def recorded_cost(folder: pathlib.Path) -> Iterator[None]:
    """Appends CPU and wall seconds of the block to `folder/cost.jsonl`, also where it fails or is interrupted."""
    cpu, wall = time.process_time(), time.monotonic()
    try:
        yield
    finally:
        append_row(folder / FILE, {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall})


def cost_table(folders: Sequence[pathlib.Path], *, cores: int = 2) -> str | None:
    """CPU minutes of each part, over all commands that worked on it, as Markdown; None without a record."""
    rows = []
    for folder in folders:
        if (folder / FILE).exists():
            rows.append([folder.name, sum(row["cpu"] for row in read_rows(folder / FILE)) / 60])
    if not rows:
        return None
    total = sum(minutes for _, minutes in rows)
    rows += [["all", total], [f"all, on {cores} busy cores", total / cores]]
    return to_markdown(table(["part", "CPU minutes"], [[name, f"{minutes:.0f}"] for name, minutes in rows]))


def run_in_parallel(names: Sequence[str], command: Sequence[str], *, jobs: int) -> None:
    """Runs `command --only NAME` for each name, `jobs` at once, each on its own share of the cores.

    Raises:
      SystemExit: with the status of the first command that failed.
    """
    cores = sorted(os.sched_getaffinity(0))
    free: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for job in range(jobs):
        free.put(set(cores[job::jobs]) or set(cores))

    def run(name: str) -> int:
        own = free.get()
        try:
            pinned = [sys.executable, "-c", _PINNED, ",".join(map(str, own)), *command, "--only", name]
            return subprocess.run(pinned, check=False).returncode
        finally:
            free.put(own)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for status in pool.map(run, names):
            if status:
                raise SystemExit(status)
