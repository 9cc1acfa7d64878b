"""What gradient caching (`optimizer.micro_batch`) saves in memory and costs in time, against plain training.

    python benchmarks/gradient_caching.py            # two minutes on two cores
    python benchmarks/gradient_caching.py --quick    # compiled memory only; prints

Prints a table and writes it to benchmarks/results/gradient_caching.md. One training step of two encoders on raw images
and texts, the loss over the whole batch. Memory is the temporary memory of the compiled step, which repeats exactly;
time is CPU time of the process, medians of rounds in which the sizes take turns.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import time
from typing import Any

import jax
import numpy as np

from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.benchmarking.loss_benchmark import machine
from alignment_jax.train.loop import initial_state
from alignment_jax.train.step import make_step

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "gradient_caching.md"
BATCH, MICRO_BATCHES, ROUNDS = 256, (0, 64, 16), 3


def step_of(micro_batch: int) -> tuple[Any, Any, Any]:
    """The compiled training step, its state and a batch."""
    config = configs.default()
    config.data, config.model = f"synthetic:train={BATCH},val=8,test=8,size=32", configs.two_tower()
    config.input.image_size, config.input.batch_size, config.train.devices = 32, BATCH, 1
    config.model.encoder_a.depth = config.model.encoder_b.depth = 2
    config.optimizer.micro_batch = micro_batch
    experiment = build(config).experiment
    step = make_step(experiment.objective, experiment.model.apply, experiment.optimizer)
    state = initial_state(experiment)
    batch = next(iter(experiment.batches(np.arange(BATCH)[None], 0, 0)))
    return jax.jit(step).lower(state, batch).compile(), state, batch


def main() -> None:
    """Prints the table, and writes it unless it is quick."""
    quick = "--quick" in sys.argv[1:]
    steps = {micro_batch: step_of(micro_batch) for micro_batch in MICRO_BATCHES}
    seconds: dict[int, list[float]] = {micro_batch: [] for micro_batch in MICRO_BATCHES}
    loss = {}
    for _ in range(0 if quick else ROUNDS + 1):
        for micro_batch, (step, state, batch) in steps.items():
            begin = time.process_time()
            _, metrics, _ = jax.block_until_ready(step(state, batch))
            seconds[micro_batch].append(time.process_time() - begin)
            loss[micro_batch] = float(metrics["loss"]), float(metrics["gradient_norm"])
    lines = [
        "# Gradient caching",
        "",
        f"`python benchmarks/gradient_caching.py` on {machine(None).replace(', without PyTorch', '')}.",
        "",
        f"One step of a ViT and a transformer (2 layers each, width 192) on {BATCH} pairs, images of 32 x 32, float32.",
        "",
        "| micro_batch | temporary memory, MiB | CPU time of a step, s | loss | norm of the gradient |",
        "|---:|---:|---:|---:|---:|",
    ]
    for micro_batch, (step, _, _) in steps.items():
        mib = step.memory_analysis().temp_size_in_bytes / 2**20
        name = str(micro_batch) if micro_batch else "0 (plain)"
        rest = "- | - | -"
        if not quick:
            rest = f"{statistics.median(seconds[micro_batch][1:]):.2f} | " + " | ".join(
                f"{x:.6f}" for x in loss[micro_batch]
            )
        lines.append(f"| {name} | {mib:,.0f} | {rest} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
