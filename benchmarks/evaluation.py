"""Evaluation of frozen latents: CPU time against its matrix products, and how several devices share the work.

    python benchmarks/evaluation.py --write       # some minutes on two cores

First, an evaluation of 12,000 pairs while training, on one device, against its matrix products alone: embedding with
adapters, ranks both ways and the spread of the embeddings, one compiled program. Then embedding and ranks as separate
programs with 1, 2 and 8 devices that share the cores of this machine: CPU time of the process by the number of devices,
and the operations of one device's matrix products, counted in the compiled programs. Each measurement is a process of
its own; the programs are compiled before it.

Prints Markdown; --write keeps it in benchmarks/results/evaluation_cpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE / "results" / "evaluation_cpu.md"
ROWS, QUICK_ROWS, DIM, DEVICES = 12_000, 3_000, 256, (1, 2, 8)
ADAPTERS = {"one affine map": {"model.blocks_a": 0, "model.blocks_b": 0}, "one block": {}}


def measure(adapters: str, rows: int, rounds: int) -> dict[str, Any]:
    """CPU milliseconds of an evaluation on all devices and, of one device, its products: their time and operations."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from compiled_operations import count
    from matrix_products import products_alone, products_of
    from train_step import alternate, cpu_milliseconds, experiment_of, latents

    from alignment_jax import metrics
    from alignment_jax.train.evaluation import Embedder, RetrievalEvaluation, measure_seeds_of
    from alignment_jax.train.loop import initial_state

    experiment = experiment_of(latents(8, val=rows), **{"model.dim": DIM, **ADAPTERS[adapters]})
    state, model, split = initial_state(experiment), experiment.model, experiment.evaluations["val"]
    variables = {"params": state.params, "model_state": state.model_state}
    embedder, devices = Embedder(model, devices=jax.devices()), jax.devices()

    def evaluate() -> Any:
        found = embedder(variables, split)
        return metrics.retrieval_ranks(found.a, found.b, split.b_to_a, devices=devices)

    embeddings = [jax.ShapeDtypeStruct((rows, DIM), jnp.float32)] * 2
    ranks = jax.jit(lambda a, b: metrics.retrieval_ranks(a, b, np.arange(rows), devices=devices)).trace(*embeddings)
    # (program, how often a device runs it)
    programs = [(ranks, 1)]
    for items, encode in ((split.items_a, model.encode_a), (split.items_b, model.encode_b)):
        batches = [batch for batch, _ in items()]
        encoded = jax.jit(encode).trace(state.params, state.model_state, batches[0])
        programs.append((encoded, -(-len(batches) // len(devices))))
    operations = sum(times * count(program.lower().compile().as_text()).products for program, times in programs)
    parts = {"evaluation": lambda: cpu_milliseconds(evaluate, 1)}
    if len(devices) == 1:
        training = RetrievalEvaluation(model, devices=devices)
        parts["training"] = lambda: cpu_milliseconds(lambda: training.evaluate_for_log(variables, split), 1)
        of_one_seed = jax.tree.map(lambda x: x[None], (state.params, state.model_state))
        arrays = (*split.latents(), np.asarray(split.b_to_a, np.int32), split.same)
        alone = products_alone(products_of(jax.make_jaxpr(measure_seeds_of(model))(*of_one_seed, *arrays)))
        parts["products"] = lambda: cpu_milliseconds(alone, 1)
    return {**alternate(parts, rounds), "operations": operations}


def in_process(devices: int, *arguments: Any) -> dict[str, Any]:
    """`measure` with so many devices, which share the cores."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, __file__, "--case", json.dumps(arguments)]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, one round")
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*json.loads(options.case))))
        return
    from train_step import machine

    from alignment_jax.report import table, to_markdown

    rows, rounds = (QUICK_ROWS, 1) if options.quick else (ROWS, 3)
    found = {(name, count): in_process(count, name, rows, rounds) for name in ADAPTERS for count in DEVICES}
    ratios, shares = [], []
    for (name, count), times in found.items():
        if count == 1:
            cells = (times["training"], times["products"], times["training"] / times["products"])
            ratios.append([name, *(f"{x:,.0f}" for x in cells[:2]), f"{cells[2]:.2f}"])
        one = found[name, 1]
        cells = (times["evaluation"], times["evaluation"] / count)
        each = (times["evaluation"] / count / one["evaluation"], times["operations"] / one["operations"])
        shares.append([name, str(count), *(f"{x:,.0f}" for x in cells), *(f"{x:.3f}" for x in each)])
    names = ["adapters", "devices", "CPU ms", "of one device", "share of one alone", "operations, share"]
    page = f"""# Evaluation of frozen latents

`python benchmarks/evaluation.py --write`. {machine()}. {rows:,} pairs of latents, embeddings of {DIM} numbers, ranks
both ways.

## Against the matrix products alone

An evaluation while training, one device. The products of the same program, and nothing else.

{to_markdown(table(["adapters", "evaluation, CPU ms", "its products, CPU ms", "ratio"], ratios))}

## On several devices

Embedding and ranks on virtual devices of one CPU. "Of one device" divides by their number.

{to_markdown(table(names, shares))}
"""
    print(page)
    if options.write:
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
