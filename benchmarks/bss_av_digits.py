"""Orders of the samples compared on spoken and handwritten digits, over seeds: test accuracy and time of an epoch.

    python benchmarks/bss_av_digits.py --data av:av_digits/manifest.csv --seeds 5 --out docs/results_bss.md

Every run selects its best epoch on val and is judged on test. Runs that are already in the results file are not made
again, so an interrupted comparison goes on where it stopped; `--seeds 0` only writes the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import pathlib
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from alignment_jax import data
from alignment_jax.config.build import build, load_source
from alignment_jax.config.inputs import build_inputs
from alignment_jax.report import table, to_markdown
from alignment_jax.train.loop import fit

ROOT = pathlib.Path(__file__).resolve().parent.parent
METHODS = {
    "vanilla": "method=vanilla",
    "curriculum, fresh": "method=curriculum",
    "curriculum, recycled": "method=curriculum,scores=recycled",
    "curriculum, scored once": "method=curriculum,rescore=0",
    "anti-curriculum, fresh": "method=anti_curriculum",
    "probabilistic, fresh": "method=probabilistic",
    "probabilistic, recycled": "method=probabilistic,scores=recycled",
}
CONDITIONS = {
    "all samples": "",
    "weak audio": "noise=3.0",
    "30% of the samples": "fraction=0.3",
    "10% of the samples": "fraction=0.1",
}


COMMAND = "python benchmarks/bss_av_digits.py --data av:av_digits/manifest.csv --seeds 5 --time"
HEAD = """# BSS on spoken and handwritten digits

Accuracy in % on the test set of the audio-visual digits (300 pairs; 2220 to learn from, 180 to choose the epoch by),
mean ± standard deviation over seeds, which change the initial weights and the order. One pair is 0.33 points, so
differences of a few tenths mean nothing. Made by

    {command}

"weak audio" adds white noise of three times the recording's RMS to every recording, in training and in tests. With a
part of the samples the number of epochs grows by the root of its inverse. Curricula show fewer samples in early epochs
and so take fewer steps in the same number of epochs.
"""
SEEDS = """## Seeds

How many runs each cell above is the mean of. The command adds those that are missing.
"""
PICTURE = """## Early, middle and late

The first, the middle and the last training samples by balance score, before the fifth epoch of a probabilistic run
(class, score): `python benchmarks/bss_order_picture.py`. A late sample is hard in one modality or in both.

![Pairs of a written digit and a spectrogram in three rows. Early: clear twos and a six. Middle: ordinary digits. Late:
blotted threes and eights.](images/bss_order.png)
"""
TIME = """## Time of an epoch

All samples shown; CPU time of all threads, median of alternating rounds. Fresh scores cost a forward pass over the
whole training set before each epoch; recycled ones are by-products of the training steps.
"""


def get_config(argument: str, **changes):
    path = ROOT / "configs" / "av_digits_bss.py"
    spec = importlib.util.spec_from_file_location("av_digits_bss", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(argument)
    config.update_from_flattened_dict(changes)
    return config


@functools.cache
def _prepared_source(noise: float, spec: str) -> data.PairSource:
    config = get_config("", data=spec, **{"audio.noise": noise})
    source = load_source(config)
    train = source.splits["train"]
    inputs = build_inputs(config, {"a": train.a.kind, "b": train.b.kind}, hints=source.hints)
    return dataclasses.replace(source, splits={name: inputs.prepared(split) for name, split in source.splits.items()})


def prepared_source(argument: str, spec: str) -> data.PairSource:
    """The data set as spectrograms and pixels, which all runs of one noise level share."""
    return _prepared_source(get_config(argument).audio.noise, spec)


def run(argument: str, spec: str, source: data.PairSource, seed: int) -> dict[str, float]:
    """Test metrics of one training."""
    config = get_config(argument, seed=seed, data=spec)
    experiment = build(config, source=source).experiment
    with tempfile.TemporaryDirectory() as folder:
        finished = fit(experiment, pathlib.Path(folder), quiet=True, tensorboard=False)
    if finished.preempted:
        raise SystemExit("stopped; the same command goes on with the runs that are missing")
    found = experiment.evaluate(finished.variables, experiment.evaluations["test"])
    return {**found, "steps": finished.position.step, "val": finished.position.best_value}


def seconds_an_epoch(argument: str, spec: str, source: data.PairSource, epochs: int = 8) -> float:
    """Median CPU time from the start of one epoch to that of the next, all samples shown, scoring included."""
    changes = {
        "train.duration": f"{epochs} epochs",
        "sampling.epochs": 1,  # a curriculum at its end, so that every order shows as many samples
        "eval.interval": "1000 epochs",
        "checkpoint.interval": "1000 epochs",
    }
    experiment = build(get_config(argument, data=spec, **changes), source=source).experiment
    starts: list[float] = []

    def timed(rows: np.ndarray, epoch: int, first: int) -> Iterator:
        starts.append(time.process_time())  # of all threads; other programs on the machine do not count
        return experiment.batches(rows, epoch, first)

    with tempfile.TemporaryDirectory() as folder:
        fit(dataclasses.replace(experiment, batches=timed), pathlib.Path(folder), quiet=True, tensorboard=False)
    return float(np.median(np.diff(starts)[2:]))


def compare(spec: str, seeds: int, results: pathlib.Path) -> None:
    """Makes the runs that are missing, seed by seed, so that a part of them is already a comparison."""
    sources = {name: prepared_source(argument, spec) for name, argument in CONDITIONS.items()}
    known = {(row["condition"], row["method"], row["seed"]) for row in read(results)}
    for seed in range(seeds):
        for condition, condition_argument in CONDITIONS.items():
            for method, method_argument in METHODS.items():
                if (condition, method, seed) in known:
                    continue
                argument = ",".join(filter(None, (method_argument, condition_argument)))
                found = run(argument, spec, sources[condition], seed)
                row = {"condition": condition, "method": method, "seed": seed, "argument": argument, **found}
                with open(results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{condition}, {method}, seed {seed}: {found['accuracy']:.1f}", flush=True)


def measure_time(spec: str, results: pathlib.Path, rounds: int = 2) -> None:
    """CPU times of an epoch, in alternating rounds."""
    source = prepared_source("", spec)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(rounds):
        for name, argument in METHODS.items():
            found[name].append(seconds_an_epoch(argument, spec, source))
            print(f"{name}: {found[name][-1]:.3f} CPU s an epoch", flush=True)
    results.with_suffix(".time.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


def read(results: pathlib.Path) -> list[dict]:
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def spread(values: list[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation}"


def page(results: pathlib.Path) -> str:
    rows = read(results)
    lines = [HEAD.format(command=COMMAND)]
    for key, title in (("accuracy", "fused prediction"), ("accuracy_a", "audio alone"), ("accuracy_b", "image alone")):
        cells = []
        for method in METHODS:
            values = {
                condition: [row[key] for row in rows if (row["condition"], row["method"]) == (condition, method)]
                for condition in CONDITIONS
            }
            cells.append([method, *(spread(found) if found else None for found in values.values())])
        lines += [f"## {title.capitalize()}", "", to_markdown(table(["order", *CONDITIONS], cells)), ""]
    counts = [
        [condition, *(sum((r["condition"], r["method"]) == (condition, m) for r in rows) for m in METHODS)]
        for condition in CONDITIONS
    ]
    lines += [SEEDS, to_markdown(table(["condition", *METHODS], counts)), ""]
    times = results.with_suffix(".time.json")
    if times.is_file():
        found = json.loads(times.read_text(encoding="utf-8"))
        base = np.median(found["shuffled"])
        cells = [[name, f"{np.median(t):.2f}", f"{np.median(t) / base:.2f}"] for name, t in found.items()]
        lines += [TIME, to_markdown(table(["order", "CPU seconds", "relative"], cells)), ""]
    return "\n".join([*lines, PICTURE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="av:FILE.csv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--time", action="store_true", help="measure the time of an epoch too")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "bss_av_digits.jsonl")
    parser.add_argument("--out", type=pathlib.Path, help="write the page here, too")
    arguments = parser.parse_args()
    compare(arguments.data, arguments.seeds, arguments.results)
    if arguments.time:
        measure_time(arguments.data, arguments.results)
    text = page(arguments.results)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
