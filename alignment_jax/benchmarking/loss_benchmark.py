"""CPU time and compiled memory of the contrastive losses and of other implementations.

Times are CPU seconds of value and gradient, summed over all cores (`time.process_time`): wall time depends on the
machine's load. The implementations take turns in every round; compare the ratios of the medians. Temporary memory is
the compiler's reservation beside arguments and results: nothing runs for it, and it repeats exactly.

Measurements are saved one by one, so that an interrupted benchmark continues.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax import __version__
from alignment_jax.benchmarking import loss_cases as cases
from alignment_jax.benchmarking.goals import GOAL_COLUMNS, MIB, goals
from alignment_jax.core.storage import write_text_atomic
from alignment_jax.report.tables import table, to_markdown

# (rows, width) -> rounds
SIZES = {
    (512, 512): 9,
    (1024, 512): 9,
    (2048, 512): 5,
    (4096, 512): 5,
    (8192, 512): 3,
    (8192, 128): 3,
    (16384, 512): 2,
    (32768, 512): 1,
}
QUICK_SIZES = {(512, 128): 3, (2048, 128): 3}
MEMORY_SIZES = (2048, 4096, 8192, 16384, 32768)
QUICK_MEMORY_SIZES = (2048, 8192)
MEMORY_DEVICES = 8
MEMORY_DIM = 512
MEMORY_CASES = {
    1: ("log_softmax", "infonce dense", "infonce tiled", "max_margin tiled", "sigmoid tiled"),
    MEMORY_DEVICES: (
        "infonce dense",
        *(
            f"{loss} {implementation}"
            for implementation in ("gathered", "ring")
            for loss in ("infonce", "max_margin", "sigmoid")
        ),
    ),
}


def time_cases(compared: Sequence[cases.BenchmarkCase], n: int, d: int, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each case; every round times one call of each."""
    rng = np.random.default_rng(0)
    za = rng.normal(size=(n, d)).astype(np.float32)
    zb = za + rng.normal(size=(n, d)).astype(np.float32)
    za, zb = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (za, zb))
    own = rng.uniform(0.05, 0.2, n).astype(np.float32)
    calls = {case.name: case.prepare(za, zb, own) for case in compared}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    # One call on a small batch is shorter than the resolution of the clock.
    repeats = max(1, int(2e8 / (n * n * d)))
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            seconds[name].append((time.process_time() - start) / repeats)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compiled_memory(n: int, devices: int, implementation: str) -> float:
    """MiB of temporary memory per device, of value and gradient at dimension `MEMORY_DIM`."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, MEMORY_DIM), (n, MEMORY_DIM), (n,))]
    axis = "data" if devices > 1 else None
    name, _, similarity = implementation.partition(" ")
    makers = {"infonce": cases.make_infonce, "max_margin": cases.make_max_margin, "sigmoid": cases.make_sigmoid}
    loss = cases.log_softmax_loss if name == "log_softmax" else makers[name](similarity, axis)
    step = jax.grad(loss, (0, 1))
    if axis is not None:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (axis,))
        rows = jax.sharding.PartitionSpec(axis)
        step = jax.shard_map(step, mesh=mesh, in_specs=rows, out_specs=rows)
    analysis: Any = jax.jit(step).lower(*shapes).compile().memory_analysis()
    return analysis.temp_size_in_bytes / MIB


def memory_rows(sizes: Sequence[int]) -> list[list[Any]]:
    """Rows [devices, implementation, MiB of every size]; this process must have `MEMORY_DEVICES` devices."""
    return [
        [devices, implementation, *(compiled_memory(n, devices, implementation) for n in sizes)]
        for devices, held in MEMORY_CASES.items()
        for implementation in held
    ]


def memory_rows_in_subprocess(sizes: Sequence[int]) -> list[list[Any]]:
    """`memory_rows` in a new process: the number of CPU devices must be set before JAX starts."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(MEMORY_DEVICES))
    command = [sys.executable, "-m", "alignment_jax.benchmarking.loss_benchmark", *map(str, sizes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the memory benchmark failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def machine(torch: Any | None) -> str:
    """The machine and the versions as text."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0].device_kind
    versions = f"jax {jax.__version__}, alignment_jax {__version__}"
    versions += f", torch {torch.__version__}" if torch is not None else ", without PyTorch"
    return f"{cores} cores of {_processor()}, device {device}, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    """Name and vector width of the processor: the ratios depend on them."""
    try:
        about = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    lines = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in about.splitlines())}
    words = (lines.get("model name"), platform.machine(), "AVX-512" if "avx512f" in lines.get("flags", "") else None)
    return ", ".join(word for word in words if word)


def all_cases(torch: Any | None) -> list[cases.BenchmarkCase]:
    """Every case that can be timed on this machine."""
    made = [cases.one_product_case(), cases.four_products_case()]
    for loss, make, max_rows in (
        ("InfoNCE", cases.make_infonce, 2**20),
        ("max-margin", cases.make_max_margin, 16384),
        ("sigmoid", cases.make_sigmoid, 16384),
    ):
        made.append(cases.jax_case(f"{loss}, tiled", make("tiled"), max_rows))
        made.append(cases.jax_case(f"{loss}, dense", make("dense")))
    made.append(cases.jax_case("InfoNCE, log_softmax", cases.log_softmax_loss))
    made.append(cases.jax_case("InfoNCE, log-sum-exp", cases.log_sum_exp_loss))
    return made + ([] if torch is None else cases.torch_cases(torch))


def run_benchmark(*, quick: bool, record: pathlib.Path | None = None) -> str:
    """Runs the benchmark and returns its tables as Markdown.

    Args:
      quick: small sizes only.
      record: JSON file for the measurements. An incomplete one from this machine is continued, any other is
        replaced. None saves nothing.
    """
    torch = cases.torch_or_none()
    sizes, memory_sizes = (QUICK_SIZES, QUICK_MEMORY_SIZES) if quick else (SIZES, MEMORY_SIZES)
    found = _read_record(record, machine(torch))
    compared = all_cases(torch)
    for (n, d), rounds in sizes.items():
        if f"{n} x {d}" not in found["times"]:
            found["times"][f"{n} x {d}"] = time_cases([case for case in compared if n <= case.max_rows], n, d, rounds)
            _save(record, found)
    if found["memory"] is None:
        found["memory"] = memory_rows_in_subprocess(memory_sizes)
        _save(record, found)
    return _markdown(found, quick, sizes, memory_sizes, [case.name for case in compared])


def _read_record(record: pathlib.Path | None, on: str) -> dict[str, Any]:
    if record is not None and record.exists():
        found = json.loads(record.read_text(encoding="utf-8"))
        if found["machine"] == on and found["memory"] is None:
            return found
    return {"machine": on, "times": {}, "memory": None}


def _save(record: pathlib.Path | None, found: dict[str, Any]) -> None:
    if record is not None:
        write_text_atomic(record, json.dumps(found, indent=1) + "\n")


def _markdown(found, quick, sizes, memory_sizes, names) -> str:
    times = [found["times"][f"{n} x {d}"] for n, d in sizes]
    rows = []
    for name in names:
        tiled = name.split(",")[0] + ", tiled"
        bases = [at.get(tiled, at["InfoNCE, tiled"]) for at in times]
        cells = [
            f"{_time(at[name])} ({at[name] / base:.2f})" if name in at else "-"
            for at, base in zip(times, bases, strict=True)
        ]
        rows.append([name, *cells])
    memory = [
        [devices, implementation, *(f"{x:,.1f}" for x in rest)] for devices, implementation, *rest in found["memory"]
    ]
    lines = [
        "# Contrastive losses: time and memory",
        "",
        f"`alignment-jax benchmark{' --quick' if quick else ''}` on {found['machine']}.",
        "",
        "CPU time of value and gradient, float32, a temperature (or margin) per row; in brackets the ratio to the",
        'tiled implementation of the same loss. "four products" is the lower bound of the tiled InfoNCE, and',
        '"one product" is S alone, by the library named.',
        "",
        to_markdown(table(["implementation", *(f"{n:,} x {d}" for n, d in sizes)], rows)),
        "",
        f"Compiled temporary memory, MiB per device, dimension {MEMORY_DIM}, gradient of the loss:",
        "",
        to_markdown(table(["devices", "implementation", *(f"n = {n:,}" for n in memory_sizes)], memory)),
        "",
    ]
    if not quick:
        lines += ["## Goals", "", to_markdown(table(GOAL_COLUMNS, goals(found))), "", *AT_MOST]
    return "\n".join(lines)


AT_MOST = (
    '"at most here" is the ratio if the tiled implementation took no longer than its own products (the measured "four',
    'products", three of them for max-margin). Where it is below the goal, both libraries multiply about equally fast',
    "on this machine, and no implementation with as many products can reach the goal.",
    "",
)


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


if __name__ == "__main__":
    print(json.dumps(memory_rows([int(size) for size in sys.argv[1:]])))
