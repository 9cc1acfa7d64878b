"""Two hours' worth of steps on a model so small that they take minutes: does anything grow, is anything compiled again?

    python benchmarks/soak/long_run.py --steps 100000 --page benchmarks/results/reliability.md

An hour of training at 14 steps a second is 50,000 steps; the memory that a step leaves does not depend on its duration.
At every evaluation the resident memory of the process, its open files and threads, and the programs compiled so far are
counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import os
import pathlib
import sys
import tempfile
import time
import tracemalloc

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import jax  # noqa: E402
from sections import write_section  # noqa: E402
from small_runs import load_config  # noqa: E402

from alignment_jax.assembly.build import build  # noqa: E402
from alignment_jax.train.loop import fit  # noqa: E402

# name -> (kind of run, changes to its configuration)
RUNS = {
    "alignment, every method, latents on the device": ("alignment", {}),
    "alignment, every method, batches sent": ("alignment", {"input.resident": "off"}),
    "classification, BSS, fresh scores every epoch": ("classification", {}),
}
_COMPILED = "/jax/core/compile/backend_compile_duration"
_LOOP = "anon_inode:[eventpoll]"  # a save runs an event loop
_LONGEST_SAVE = 20.0  # seconds


def open_files() -> tuple[str, ...]:
    """What the file descriptors of this process point to."""
    links = []
    for path in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            links.append(os.readlink(f"/proc/self/fd/{path}"))
    return tuple(sorted(links))


@dataclasses.dataclass(frozen=True)
class Sample:
    """The memory and objects of the process at one moment."""

    step: int
    memory: float  # resident, MiB
    files: tuple[str, ...]
    threads: int
    compiled: int
    held: float  # MiB allocated by Python and NumPy since the tracing began and still held
    arrays: int  # arrays on devices


class Watch:
    """Counts compilations from the moment it is made, and takes samples.

    A sample waits for the saves of checkpoints under `folder` to end: they hold files and arrays for a moment.
    With `trace_from` what Python and NumPy allocate after so many samples is counted, too; that slows what follows.
    """

    def __init__(self, folder: pathlib.Path, trace_from: int | None = None) -> None:
        self.compiled, self._folder, self._trace_from = 0, str(folder), trace_from
        self._loops = open_files().count(_LOOP)
        self.samples: list[Sample] = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration: float, **more: object) -> None:
        self.compiled += event == _COMPILED

    def _saving(self, files: tuple[str, ...]) -> bool:
        return files.count(_LOOP) > self._loops or any(path.startswith(self._folder) for path in files)

    def sample(self, step: int) -> None:
        deadline = time.monotonic() + _LONGEST_SAVE
        while self._saving(files := open_files()) and time.monotonic() < deadline:
            time.sleep(0.01)
        threads = len(os.listdir("/proc/self/task"))
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        if tracemalloc.is_tracing():
            gc.collect()  # garbage does not count
        held = tracemalloc.get_traced_memory()[0] / 2**20
        arrays = len(jax.live_arrays())
        self.samples.append(Sample(step, memory, files, threads, self.compiled, held, arrays))
        if len(self.samples) == self._trace_from:
            tracemalloc.start()


def watched_run(
    kind: str, changes: dict, *, steps: int, looks: int, folder: pathlib.Path, trace_from: int | None = None
) -> tuple[list[Sample], int]:
    """Trains for `steps` steps; the samples of `looks` evaluations, and how many steps an epoch has."""
    config = load_config(folder, kind)
    every = max(1, steps // looks)
    config.train.devices, config.train.duration = 1, f"{steps} steps"
    config.log.interval, config.eval.interval, config.checkpoint.interval = (
        "100 steps",
        f"{every} steps",
        f"{every} steps",
    )
    config.update_from_flattened_dict(changes)
    built = build(config)
    watch, calls = Watch(folder / "run" / "checkpoints", trace_from), [0]

    def watched(variables, split, last):
        found = built.experiment.log_metrics(variables, split, last)
        calls[0] += 1
        watch.sample(calls[0] * every)
        return found

    experiment = dataclasses.replace(built.experiment, evaluate_for_log=watched)
    try:
        fit(experiment, folder / "run", quiet=True, tensorboard=True)
    finally:
        tracemalloc.stop()
    return watch.samples, max(1, experiment.sampler.size // experiment.batch_size)


def row(name: str, samples: list[Sample], seconds: float) -> str:
    early, late = samples[len(samples) // 5], samples[-2]  # the last evaluation computes more, by further programs
    cells = [
        name, f"{late.step:,}", f"{seconds / 60:.1f}", f"{early.memory:.0f} → {late.memory:.0f}",
        f"{len(early.files)} → {len(late.files)}", f"{early.threads} → {late.threads}", late.compiled - early.compiled,
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--page", type=pathlib.Path, help="write the table into this page, part `long`")
    options = parser.parse_args()
    lines = [
        "| run | steps | minutes | memory [MiB] | open files | threads | programs compiled |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (kind, changes) in RUNS.items():
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            samples, _ = watched_run(kind, changes, steps=options.steps, looks=50, folder=pathlib.Path(folder))
        lines.append(row(name, samples, time.monotonic() - started))
        print(lines[-1], flush=True)
    lines += [
        "",
        "After the first fifth → at the last evaluation but one; the last computes more, by programs of its own.",
    ]
    text = "\n".join(lines)
    print(text)
    if options.page:
        write_section("long", text, page=options.page)


if __name__ == "__main__":
    main()
