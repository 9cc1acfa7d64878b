"""Trains with every precision of the loss's products and tests whether the results differ.

    python benchmarks/precision_training.py --data multi30k_text/features.npz --workdir runs/precision --write

InfoNCE with a learned temperature on frozen latents, the same seeds for every precision: initial parameters and batches
are the same, so the test compares pairs of runs. A CPU computes each kind of product as an accelerator would, only
slower. The runs are kept in the workdir, so that an interrupted command continues.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import tempfile
from typing import Any, get_args

import numpy as np
from complete_fit import complete_fit
from kept_rows import kept_row
from precision import PAGE
from sections import write_section

from alignment_jax.assembly.build import build
from alignment_jax.compare.paired_differences import compare_paired
from alignment_jax.config import load
from alignment_jax.report import mean_std, read_rows, table, to_markdown
from alignment_jax.similarity.products import PrecisionName

STEPS, EVALUATIONS = 400, 8


def run(file: pathlib.Path, precision: str, seed: int, steps: int) -> dict[str, Any]:
    """rsum on val and the loss over the steps, and rsum on test of the best checkpoint."""
    config = load(f"flickr8k_frozen.py:data=embeddings:{file},method=baseline")
    config.loss.precision, config.seed = precision, seed
    config.train.duration, config.eval.interval = f"{steps} steps", f"{max(1, steps // EVALUATIONS)} steps"
    built = build(config)
    with tempfile.TemporaryDirectory() as folder:
        finished = complete_fit(built.experiment, pathlib.Path(folder))
        rows = [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()]
    experiment = built.experiment
    return {
        "val": [row["val/rsum"] for row in rows if "val/rsum" in row],
        "loss": [row["train/loss"] for row in rows if "train/loss" in row],
        "test": experiment.evaluate(finished.variables, experiment.evaluations["test"])["rsum"],
    }


def page(rows: list[dict[str, Any]]) -> str:
    """A row for each precision: test, and the largest difference of the curves in units of its own interval."""
    by_name = {
        name: sorted((x for x in rows if x["precision"] == name), key=lambda x: x["seed"])
        for name in get_args(PrecisionName)
    }
    plain, lines = by_name["float32"], []
    for name, own in by_name.items():
        if not own:
            continue
        cells = ["–", "–"]
        if name != "float32" and len(own) == len(plain) > 1:
            found = compare_paired([x["test"] for x in plain], [x["test"] for x in own])
            curves = (np.array([x["val"] for x in each]).T.tolist() for each in (plain, own))
            at = [compare_paired(one, other).verdict for one, other in zip(*curves, strict=True)]
            shown = (
                found.verdict if found.seeds is None else "{:+.2f} [{:+.2f}, {:+.2f}]".format(found.mean, *found.seeds)
            )
            cells = [shown, f"{sum(verdict in ('better', 'worse') for verdict in at)} of {len(at)}"]
        lines.append([f"`{name}`", mean_std([x["test"] for x in own]).text(), *cells])
    names = ["products", "rsum on test", "difference to float32, 95 % interval", "points of val that differ"]
    head = (
        "`python benchmarks/precision_training.py --write`: InfoNCE on latents of English and German captions "
        f"(Multi30k, 11,000 pictures), {STEPS} steps, {len(plain)} seeds, the same for every precision."
    )
    return f"{head}\n\n{to_markdown(table(names, lines))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="features.npz")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--write", action="store_true", help="write the part of benchmarks/results/precision.md")
    arguments = parser.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    file = arguments.workdir / "precision.jsonl"
    for seed in range(arguments.seeds):
        for name in get_args(PrecisionName):
            measure = functools.partial(run, arguments.data.absolute(), name, seed, arguments.steps)
            kept_row(file, {"precision": name, "seed": seed, "steps": arguments.steps}, measure)
    shown = page([row for row in read_rows(file) if row["steps"] == arguments.steps])
    if arguments.write:
        write_section("training", shown, page=PAGE)
    print(shown)


if __name__ == "__main__":
    main()
