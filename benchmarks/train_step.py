"""Where the time of a training step goes, and how fast training is beside a plain PyTorch loop.

    python benchmarks/train_step.py                              # five to nine minutes on two cores
    python benchmarks/train_step.py --torch-python=PATH/python   # with the PyTorch loop, from an interpreter with it
    python benchmarks/train_step.py --quick                      # smaller and fewer rounds, to see that it works

Four tables: the shares of input, model, loss and update in a step, on frozen latents and on pixels; whole steps against
their matrix products alone; frozen latents that live on the device against batches sent there step by step; and pairs
per second of CPU time beside PyTorch (the same adapters, batch and optimiser, `train_step_torch.py`). Times are CPU
times of this process, which other processes on the machine disturb less than the clock; what is compared takes turns,
and the median round is shown.

Prints Markdown and writes it to benchmarks/results/train_step_cpu.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matrix_products import products_alone, products_of

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.build import build
from alignment_jax.core import l2_normalize
from alignment_jax.core.types import Batch
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.device_data_set import DeviceDataSet
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.loop import initial_state
from alignment_jax.train.step import Placement, make_step

HERE = pathlib.Path(__file__).resolve().parent
WIDTHS = (1024, 384)
BATCH = 128
PAIRS = (600, 6_000, 600_000)
SMALL = {"model.blocks_a": 0, "model.blocks_b": 0, "model.dim": 256}  # one affine map a side


def latents(pairs: int, *, val: int = 8) -> data.PairSource:
    """Frozen latents of the widths of DINOv2-L and MiniLM, stored in half precision: pairs to train, and for val."""
    rng = np.random.default_rng(0)

    def split(n: int) -> data.PairSplit:
        a, b = (data.ArrayColumn(rng.standard_normal((n, w), dtype=np.float32).astype(np.float16)) for w in WIDTHS)
        return data.PairSplit(a=a, b=b, b_to_a=np.arange(n, dtype=np.int32), ids=np.arange(n).astype(str))

    return data.PairSource(
        "latents", "latents", {"train": split(pairs), "val": split(val)}, modalities=("image", "text")
    )


def experiment_of(source: data.PairSource | None, **changes: Any) -> Experiment:
    config = configs.default()
    config.input.batch_size, config.train.devices = BATCH, 1
    if source is None:
        config.data, config.model = "synthetic:train=512,val=8,test=8", configs.two_tower("resnet18", "transformer")
    config.update_from_flattened_dict(changes)
    return build(config, source=source).experiment


class Training:
    """Steps of an experiment one after another, epoch after epoch, as the loop takes them."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.placement = Placement(
            experiment.devices,
            lambda axis: make_step(
                experiment.objective,
                experiment.model.apply,
                experiment.optimizer,
                axis_name=axis,
                project=experiment.model.project,
            ),
        )
        self.resident = None if experiment.tables is None else DeviceDataSet(self.placement, experiment.tables)
        self.state = self.placement.put_state(initial_state(experiment))
        self.batches = self._batches()

    def _batches(self) -> Iterator[Batch]:
        experiment = self.experiment
        for epoch in itertools.count():
            order = experiment.sampler.order({}, epoch)
            rows = batch_rows(order, batch_size=experiment.batch_size, devices=1)
            yield from experiment.batches(rows, epoch, 0)

    def run(self, steps: int) -> None:
        if self.resident is not None:
            # Chunks of 10, the default distance of two log lines.
            for count in [10] * (steps // 10):
                self.state, _ = self.resident(self.state, list(itertools.islice(self.batches, count)))
        else:
            for batch in itertools.islice(self.batches, steps):
                self.state, _, _ = self.placement.run(self.state, self.placement.put_batch(batch))
        jax.block_until_ready(self.state)


def cpu_milliseconds(call: Callable[[], Any], times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        result = call()
    jax.block_until_ready(result)
    return 1e3 * (time.process_time() - begin) / times


def alternate(parts: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each part's measurements, one a round, after one that is thrown away."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for measured in range(rounds + 1):
        for name, part in parts.items():
            value = part()
            if measured:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def shares(experiment: Experiment, *, steps: int, rounds: int) -> dict[str, float]:
    """CPU milliseconds of a step and of its parts, each compiled on its own; the update is what is left."""
    training = Training(experiment)
    state = training.placement.put_state(initial_state(experiment))
    batch = training.placement.put_batch(next(training.batches))
    n, key = batch["where"].shape[0], jax.random.key(0)
    apply, objective = experiment.model.apply, experiment.objective

    def encode(params):
        a, b, where = batch["a"], batch["b"], batch["where"]
        return apply(params, state.model_state, a, b, train=True, rows=jnp.arange(n), where=where, key=key)[0]

    outputs = jax.jit(encode)(state.params)

    def given(pair, model_state, a, b, **options):
        return {**outputs, "a": l2_normalize(pair[0]), "b": l2_normalize(pair[1])}, model_state

    def loss(pair):
        held = objective(given, pair, {}, state.method_state, batch, step=state.step, key=key, axis_name=None)
        return held[0]

    model = jax.jit(jax.grad(lambda params: sum(jnp.vdot(encode(params)[side], outputs[side]) for side in "ab")))
    loss_gradient = jax.jit(jax.grad(loss))
    pair = (outputs["a"], outputs["b"])
    parts = {
        "step": lambda: cpu_milliseconds(lambda: training.run(steps), 1) / steps,
        "input": lambda: (
            cpu_milliseconds(
                lambda: [training.placement.put_batch(x) for x in itertools.islice(training.batches, steps)], 1
            )
            / steps
        ),
        "model": lambda: cpu_milliseconds(lambda: model(state.params), steps),
        "loss": lambda: cpu_milliseconds(lambda: loss_gradient(pair), steps),
    }
    found = alternate(parts, rounds)
    return {**found, "update": max(0.0, found["step"] - found["input"] - found["model"] - found["loss"])}


def shares_table(steps: int, rounds: int) -> Iterator[str]:
    cases = {
        "frozen latents, one block a side (10 M parameters)": experiment_of(
            latents(6_000), **{"input.resident": "off"}
        ),
        "frozen latents, one affine map a side (0.4 M)": experiment_of(
            latents(6_000), **{"input.resident": "off", **SMALL}
        ),
        "pixels 32 x 32, resnet18 and transformer": experiment_of(
            None, **{"input.image_size": 32, "model.encoder_a.width": 16, "input.batch_size": 64}
        ),
    }
    yield "| what is trained | step, CPU ms | input | model | loss | update and checks |"
    yield "|---|---|---|---|---|---|"
    for name, experiment in cases.items():
        found = shares(experiment, steps=steps, rounds=rounds)
        parts = " | ".join(
            f"{100 * found[part] / found['step']:.0f} %" for part in ("input", "model", "loss", "update")
        )
        yield f"| {name} | {found['step']:.1f} | {parts} |"


def products_table(steps: int, rounds: int) -> Iterator[str]:
    """Whole steps from the device's own training set, against the matrix products of the traced step alone."""
    yield "| adapters | batch | step, CPU ms | its products alone | outside of products |"
    yield "|---|---|---|---|---|"
    source = latents(6_000)
    for name, changes in (("one affine map", SMALL), ("one block", {})):
        for batch in (BATCH, 600, 2_048):
            settings = {"input.resident": "on", "input.batch_size": batch, **changes}
            training = Training(experiment_of(source, **settings))
            state, (a, b) = training.state, training.experiment.first_batch
            rows = {"index": jax.ShapeDtypeStruct((batch,), jnp.int32), "where": jax.ShapeDtypeStruct((batch,), bool)}
            items = {k: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for k, x in (("a", a), ("b", b))}
            products = products_alone(products_of(jax.make_jaxpr(training.placement.step)(state, {**items, **rows})))
            found = alternate(
                {
                    "step": lambda t=training: cpu_milliseconds(lambda: t.run(steps), 1) / steps,
                    "products": lambda run=products: cpu_milliseconds(run, steps),
                },
                rounds,
            )
            outside = 100 * (1 - found["products"] / found["step"])
            yield f"| {name} | {batch:,} | {found['step']:.1f} | {found['products']:.1f} | {outside:.0f} % |"


def resident_table(sizes: tuple[int, ...], steps: int, rounds: int) -> Iterator[str]:
    yield "| pairs | adapters | step by step, steps/s | on the device, steps/s | ratio of CPU times |"
    yield "|---|---|---|---|---|"
    for pairs in sizes:
        source = latents(pairs)
        for name, changes in (("one affine map", SMALL), ("one block", {})):
            runs = {
                kind: Training(experiment_of(source, **{"input.resident": kind, **changes})) for kind in ("off", "on")
            }
            wall: dict[str, list[float]] = {kind: [] for kind in runs}

            def timed(kind: str, runs=runs, wall=wall) -> float:
                begin = time.perf_counter()
                found = cpu_milliseconds(lambda: runs[kind].run(steps), 1) / steps
                wall[kind].append((time.perf_counter() - begin) / steps)
                return found

            cpu = alternate({kind: lambda kind=kind: timed(kind) for kind in runs}, rounds)
            speed = {kind: 1.0 / statistics.median(values[1:]) for kind, values in wall.items()}
            yield f"| {pairs:,} | {name} | {speed['off']:.1f} | {speed['on']:.1f} | {cpu['off'] / cpu['on']:.2f} |"


def torch_table(python: str, sizes: tuple[int, ...], steps: int, rounds: int) -> Iterator[str]:
    """One PyTorch process a measurement: two libraries in one process would fight over its threads."""
    yield "| pairs | PyTorch, pairs per CPU second | alignment_jax | ratio |"
    yield "|---|---|---|---|"
    for pairs in sizes:
        training = Training(experiment_of(latents(pairs), **{"input.resident": "on"}))
        training.run(steps)

        def plain(pairs=pairs) -> float:
            arguments = [str(x) for x in (pairs, BATCH, steps)]
            command = [python, str(HERE / "train_step_torch.py"), *arguments]
            # Threads that spin while they wait would count as work on a machine that others use as well.
            environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            return json.loads(done.stdout)["cpu_ms"]

        found = alternate(
            {"torch": plain, "own": lambda t=training: cpu_milliseconds(lambda: t.run(steps), 1) / steps}, rounds
        )
        speed = {name: 1e3 * BATCH / value for name, value in found.items()}
        ratio = speed["own"] / speed["torch"]
        yield f"| {pairs:,} | {speed['torch']:,.0f} | {speed['own']:,.0f} | {ratio:.2f} |"


def has_torch(python: str) -> bool:
    return subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"Python {platform.python_version()}, jax {jax.__version__}, numpy {np.__version__}"
    return f"{cores} {platform.machine()} cores (shared with other work), {versions}"


def main() -> None:
    """Prints the tables and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, no large data set")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--out", default=str(HERE / "results" / "train_step_cpu.md"))
    options = parser.parse_args()
    steps, rounds = (10, 1) if options.quick else (20, 3)
    sizes = PAIRS[:2] if options.quick else PAIRS
    lines: list[str] = []

    def show(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    show(
        f"# A training step\n\n{machine()}. Batches of {BATCH} (pixels: 64), latents of {WIDTHS[0]} and {WIDTHS[1]}.\n"
    )
    show("## What a step is made of\n")
    for line in shares_table(steps, rounds):
        show(line)
    show("\n## Whole steps and their matrix products\n")
    for line in products_table(steps, rounds):
        show(line)
    show("\n## The training set on the device, or its batches sent there\n")
    for line in resident_table(sizes, steps, rounds):
        show(line)
    if has_torch(options.torch_python):
        show("\n## Beside a plain PyTorch loop: the same adapters, batch and optimiser\n")
        for line in torch_table(options.torch_python, sizes, steps, rounds):
            show(line)
    else:
        show("\nPyTorch is not installed: --torch-python names an interpreter that has it.")
    if not options.quick:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
