"""CPU time of a classifier's whole training step with each balancing method, relative to the plain step.

    python benchmarks/balance_step.py            # prints the tables, five minutes on two cores
    python benchmarks/balance_step.py --write    # and writes benchmarks/results/balance_step.md

All steps are compiled in one process and take turns; a ratio is the median over the turns of (method / plain) of the
same turn. CPU seconds of all threads, so that other programs on the machine change little; on an accelerator look at
the wall time. Random inputs of the sizes of recordings and images (configs/classify.py) and of features
(configs/classify_features.py).
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from alignment_jax import config as configs
from alignment_jax.assembly.balance import BalancedRun, build_balance, feature_widths
from alignment_jax.assembly.build import configured_model
from alignment_jax.assembly.classifier import build_classification, head_names
from alignment_jax.assembly.optimization import build_optimizer
from alignment_jax.assembly.step_counts import StepCounts
from alignment_jax.config.recipes import BALANCING
from alignment_jax.report import table, to_markdown
from alignment_jax.train.state import create_state
from alignment_jax.train.step import make_step

OUT = pathlib.Path(__file__).resolve().parent / "results" / "balance_step.md"
CLASSES, SIZE, GOAL = 10, 4000, 1.15
INPUTS = {
    "recordings": (
        {"name": "convnet", "widths": (16, 32, 64), "norm": "batch"},
        [(40, 80, 1), (28, 28, 3), (28, 28, 3)],
    ),
    "features": ({"name": "mlp", "widths": (256,), "dropout": 0.3}, [(240,), (76,), (47,)]),
}
TITLES = {"recordings": "Recordings and images, convolutions", "features": "Features, one hidden layer of 256"}
FEATURES_NOTE = """A step on features is so short that every additional array operation shows. `ogm_ge` also draws a
normal number for each parameter of the encoders, however few samples the batch has; `ogm` is the same without noise.
"""


def made_step(name: str, inputs: str, modalities: int, batch_size: int) -> tuple[Callable[..., Any], Any, bool]:
    """(compiled step, first state, whether it has a second backward pass) of a method."""
    encoder, shapes = INPUTS[inputs]
    config = configs.default()
    config.model = configs.fusion_classifier(*(dict(encoder) for _ in range(modalities)))
    configs.apply_balance(config, name)
    model = configured_model(config, classes=CLASSES)
    first = tuple(np.zeros((2, *shape), np.float32) for shape in shapes[:modalities])
    steps = StepCounts(SIZE // batch_size, batch_size, lambda epochs: epochs * SIZE / batch_size, 1000)

    def method(weights):
        run = BalancedRun(
            steps=steps,
            weights=weights,
            widths=lambda: feature_widths(model, jax.eval_shape(model.init, jax.random.key(0), *first), first),
            classes=CLASSES,
            size=SIZE,
            fusion=config.model.fusion,
            data_seed=0,
        )
        return build_balance(config.balance, run)

    heads = head_names(config.model)
    objective = build_classification(config.classification, heads=heads, label=None, classes=CLASSES, balance=method)
    optimizer, _ = build_optimizer(config.optimizer, steps)
    params, model_state = model.init(jax.random.key(0), *first)
    state = create_state(
        params=params,
        model_state=model_state,
        optimizer=optimizer,
        method_state=objective.init(),
        key=jax.random.key(1),
        averaged=False,
    )
    step = jax.jit(make_step(objective, model.apply, optimizer), donate_argnums=0)
    return step, state, objective.balance.separate


def random_batch(inputs: str, modalities: int, batch_size: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    items = {m: rng.normal(size=(batch_size, *s)) for m, s in zip("abc", INPUTS[inputs][1][:modalities], strict=False)}
    batch: dict[str, Any] = {m: x.astype(np.float32) for m, x in items.items()}
    batch["label"] = rng.integers(0, CLASSES, batch_size).astype(np.int32)
    batch["index"] = rng.permutation(SIZE)[:batch_size].astype(np.int32)
    batch["where"] = np.ones(batch_size, bool)
    return jax.device_put(batch)


def measure(inputs: str, modalities: int, *, batch_size: int, rounds: int, steps: int) -> list[list[str]]:
    """A row of the table for each method."""
    batch = random_batch(inputs, modalities, batch_size)
    sides: dict[str, Any] = {n: [*made_step(n, inputs, modalities, batch_size)] for n in ("none", *BALANCING)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}

    def turn(name: str) -> tuple[float, float]:
        step, state, _ = sides[name]
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            state, metrics, _ = step(state, batch)
        jax.block_until_ready((state, metrics))
        sides[name][1] = state
        return (time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps

    for name in sides:
        turn(name)  # compiles
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            found[name].append(turn(name))
    rows = []
    for name, turns in found.items():
        ratios = [own[0] / plain[0] for own, plain in zip(turns, found["none"], strict=True)]
        walls = [own[1] / plain[1] for own, plain in zip(turns, found["none"], strict=True)]
        second = sides[name][2]
        ratio = statistics.median(ratios)
        rows.append(
            [
                name,
                f"{1000 * statistics.median(cpu for cpu, _ in turns):.2f}",
                f"{ratio:.2f}",
                f"{statistics.median(walls):.2f}",
                "second backward pass" if second else "" if ratio <= GOAL else f"above {GOAL}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", choices=sorted(INPUTS), help="these alone")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    arguments = parser.parse_args()
    rounds, steps, batch_size = arguments.rounds, arguments.steps, arguments.batch_size
    parts = [
        "# Cost of the balancing methods\n",
        "`python benchmarks/balance_step.py --write`. CPU time of a whole training step relative to the plain one "
        f"(`none`): medians over {rounds} alternating turns of {steps} steps, batches of {batch_size}, one device, "
        f"each table in one run. The goal is at most {GOAL}, except for a second backward pass.\n",
    ]
    for inputs in [arguments.inputs] if arguments.inputs else INPUTS:
        parts.append(f"## {TITLES[inputs]}\n")
        for modalities in (2, 3):
            rows = measure(inputs, modalities, batch_size=batch_size, rounds=rounds, steps=steps)
            parts.append(f"{modalities} modalities:\n")
            parts.append(to_markdown(table(["method", "CPU ms", "CPU, relative", "wall, relative", ""], rows)) + "\n")
    if not arguments.inputs or arguments.inputs == "features":
        parts.append(FEATURES_NOTE)
    text = "\n".join(parts).rstrip() + "\n"
    print(text)
    if arguments.write:
        OUT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
