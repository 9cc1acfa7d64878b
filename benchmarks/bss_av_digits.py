"""Orders of the samples compared on spoken and handwritten digits, over seeds: test accuracy and time of an epoch.

    python benchmarks/bss_av_digits.py --data av:av_digits/manifest.csv --seeds 5 --time

Every run selects its best epoch on val and is judged on test. Runs that are already in the results file are not made
again, so the same command resumes; `--seeds 0` only writes the pages.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Iterator

import numpy as np
from complete_fit import complete_fit
from scipy import stats
from sections import write_section

from alignment_jax import data
from alignment_jax.assembly.build import build, load_source
from alignment_jax.assembly.inputs import build_inputs
from alignment_jax.config import load
from alignment_jax.report import append_row, read_rows, table, to_markdown

ROOT = pathlib.Path(__file__).resolve().parent.parent
METHODS = {
    "vanilla": "method=vanilla",
    "curriculum, fresh": "method=curriculum",
    "curriculum, recycled": "method=curriculum,scores=recycled",
    "anti-curriculum, fresh": "method=anti_curriculum",
    "probabilistic, fresh": "method=probabilistic",
    "probabilistic, recycled": "method=probabilistic,scores=recycled",
}
TIMED = {
    **{name: argument for name, argument in METHODS.items() if "anti" not in name},
    "curriculum, scored once": "method=curriculum,rescore=0",
}
CONDITIONS = {
    "all samples": "",
    "weak audio": "noise=3.0",
    "30% of the samples": "fraction=0.3",
    "10% of the samples": "fraction=0.1",
}


PAGE = ROOT / "benchmarks" / "results" / "bss.md"
HEADS = {"accuracy_a": "Audio alone", "accuracy_b": "Image alone"}

COMMAND = "python benchmarks/bss_av_digits.py --data av:av_digits/manifest.csv --seeds 5 --time"
HEAD = """## BSS: the order of samples on spoken and handwritten digits

Accuracy of the fused prediction in % on the test set of the audio-visual digits (300 pairs; 2220 for training, 180 for
choosing the epoch), mean ± standard deviation over {seeds}, which change the initial weights and the order. One pair is
0.33 points. Made by

    {command}

"weak audio" adds white noise of three times the recording's RMS to every recording, in training and in test.
{verdict}
[Each modality alone, the intervals, the time of an epoch](../benchmarks/results/bss.md).

"""
DETAILS = """- With a part of the samples the number of epochs grows by the root of its inverse.
- Curricula use fewer samples in early epochs and so take fewer steps in the same number of epochs.
- Samples are scored before every epoch. The paper scores a curriculum once, with the untrained network (`rescore=0`).
- Runs are reproducible to the bit on one machine. Another processor rounds differently: one seed of the curriculum on
  10% of the samples reached 82.7 on one and 79.3 on another. The standard deviation includes such differences.
"""
DIFFERENCES = """## Against plain shuffling

Difference of the fused prediction's accuracy to vanilla, in points, paired by seed: 95% interval of its mean (Student's
t).
"""
RECYCLED = """## Fresh or recycled scores

Recycled minus fresh, with the same interval.
"""
INCOMPLETE = """## Runs so far

Number of runs per cell. The command adds the missing ones.
"""
PICTURE = """## Early, middle and late

The first, the middle and the last training samples by balance score after five epochs of plain training, made by
`python benchmarks/bss_order_picture.py --data av:av_digits/manifest.csv --out docs/images/bss_order.png`. Above: the
written digit and the prediction of the image's head. Below: the spectrogram and the prediction of the audio's head.

![Pairs of a written digit and a spectrogram in three rows. Early: both heads are right. Middle: ordinary samples. Late:
one head is wrong.](../../docs/images/bss_order.png)
"""
TIME = """## Time of an epoch

All samples; CPU time of all threads, median over epochs, mean of alternating rounds; "relative" is to plain shuffling
in the same round. Fresh scores cost a forward pass over the training set before each epoch; recycled scores are
by-products of the training steps.
"""


def get_config(argument: str, **changes):
    config = load(f"av_digits_bss.py:{argument}")
    config.update_from_flattened_dict(changes)
    return config


@functools.cache
def _prepared_source(noise: float, spec: str) -> data.PairSource:
    config = get_config("", data=spec, **{"audio.noise": noise})
    source = load_source(config)
    train = source.splits["train"]
    inputs = build_inputs(config.input, config.audio, kinds={"a": train.a.kind, "b": train.b.kind}, hints=source.hints)
    return dataclasses.replace(source, splits={name: inputs.prepared(split) for name, split in source.splits.items()})


def prepared_source(argument: str, spec: str) -> data.PairSource:
    """The data set as spectrograms and pixels, which all runs of one noise level share."""
    return _prepared_source(get_config(argument).audio.noise, spec)


def run(argument: str, spec: str, source: data.PairSource, seed: int) -> dict[str, float]:
    """Test metrics of one training."""
    config = get_config(argument, seed=seed, data=spec)
    experiment = build(config, source=source).experiment
    finished = complete_fit(experiment)
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

    complete_fit(dataclasses.replace(experiment, batches=timed))
    return float(np.median(np.diff(starts)[2:]))


def compare(spec: str, seeds: int, results: pathlib.Path) -> None:
    """Makes the runs that are missing, seed by seed, so that a part of them is already a comparison."""
    known = {(row["condition"], row["method"], row["seed"]) for row in read_rows(results)}
    for seed in range(seeds):
        for condition, condition_argument in CONDITIONS.items():
            for method, method_argument in METHODS.items():
                if (condition, method, seed) in known:
                    continue
                argument = ",".join(filter(None, (method_argument, condition_argument)))
                found = run(argument, spec, prepared_source(condition_argument, spec), seed)
                row = {"condition": condition, "method": method, "seed": seed, "argument": argument, **found}
                append_row(results, row)
                print(f"{condition}, {method}, seed {seed}: {found['accuracy']:.1f}", flush=True)


def measure_time(spec: str, results: pathlib.Path, rounds: int = 2) -> None:
    """CPU times of an epoch, in alternating rounds."""
    source = prepared_source("", spec)
    found: dict[str, list[float]] = {name: [] for name in TIMED}
    for _ in range(rounds):
        for name, argument in TIMED.items():
            found[name].append(seconds_an_epoch(argument, spec, source))
            print(f"{name}: {found[name][-1]:.3f} CPU s an epoch", flush=True)
    results.with_suffix(".time.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


def spread(values: list[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation}"


def difference(values: dict[int, float], to: dict[int, float]) -> str:
    """The 95% interval of the mean difference over the seeds that both have, in words.

    >>> difference({0: 91.0, 1: 92.0, 2: 93.0}, {0: 91.0, 1: 91.0, 2: 94.0})
    'no difference shown (-2.5 to +2.5)'
    >>> difference({0: 92.0, 1: 92.2, 2: 92.4}, {0: 90.0, 1: 90.1, 2: 90.5})
    'better by 2.0 (+1.7 to +2.3)'
    """
    seeds = sorted(values.keys() & to.keys())
    if len(seeds) < 2:
        return ""
    found = np.array([values[seed] - to[seed] for seed in seeds])
    half = stats.t.ppf(0.975, len(seeds) - 1) * found.std(ddof=1) / np.sqrt(len(seeds))
    interval = f"({found.mean() - half:+.1f} to {found.mean() + half:+.1f})"
    if abs(found.mean()) <= half or not found.any():
        return f"no difference shown {interval}"
    return f"{'better' if found.mean() > 0 else 'worse'} by {abs(found.mean()):.1f} {interval}"


def pages(results: pathlib.Path) -> tuple[str, str]:
    """The part of docs/results.md, and benchmarks/results/bss.md."""
    rows = read_rows(results)

    def by_seed(condition: str, method: str, key: str = "accuracy") -> dict[int, float]:
        return {row["seed"]: row[key] for row in rows if (row["condition"], row["method"]) == (condition, method)}

    counts = {(c, m): len(by_seed(c, m)) for c in CONDITIONS for m in METHODS}
    most = max(counts.values(), default=0)
    seeds = f"{most} seeds" if min(counts.values()) == most else f"up to {most} seeds"

    def accuracy_table(key: str) -> str:
        found = {m: [list(by_seed(c, m, key).values()) for c in CONDITIONS] for m in METHODS}
        cells = [[m, *(spread(values) if values else None for values in columns)] for m, columns in found.items()]
        return to_markdown(table(["order", *CONDITIONS], cells))

    lines = [DETAILS]
    for key, title in HEADS.items():
        lines += [f"## {title}", "", accuracy_table(key), ""]
    cells = [
        [m, *(difference(by_seed(c, m), by_seed(c, "vanilla")) for c in CONDITIONS)] for m in METHODS if m != "vanilla"
    ]
    texts = [cell for row in cells for cell in row[1:]]
    shown = [sum(text.startswith(word) for text in texts) for word in ("better", "worse", "no difference")]
    verdict = (
        f"Of {len(texts)} intervals of the difference to vanilla {shown[0]} are above zero, {shown[1]} below, and "
        f"{shown[2]} cover it.\nExpect one in twenty to miss zero by chance."
    )
    part = HEAD.format(command=COMMAND, seeds=seeds, verdict=verdict) + accuracy_table("accuracy")
    lines += [DIFFERENCES, to_markdown(table(["order", *CONDITIONS], cells)), ""]
    cells = [
        [name, *(difference(by_seed(c, f"{name}, recycled"), by_seed(c, f"{name}, fresh")) for c in CONDITIONS)]
        for name in ("curriculum", "probabilistic")
    ]
    lines += [RECYCLED, to_markdown(table(["order", *CONDITIONS], cells)), ""]
    times = results.with_suffix(".time.json")
    if times.is_file():
        found = json.loads(times.read_text(encoding="utf-8"))
        relative = {
            name: np.mean([x / y for x, y in zip(t, found["vanilla"], strict=False)]) for name, t in found.items()
        }
        cells = [[name, f"{np.mean(t):.2f}", f"{relative[name]:.2f}"] for name, t in found.items()]
        lines += [TIME, to_markdown(table(["order", "CPU seconds", "relative"], cells)), ""]
    if min(counts.values()) < most:
        cells = [[c, *(counts[c, m] for m in METHODS)] for c in CONDITIONS]
        lines += [INCOMPLETE, to_markdown(table(["condition", *METHODS], cells)), ""]
    return part, "\n".join([*lines, PICTURE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="av:FILE.csv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--time", action="store_true", help="measure the time of an epoch too")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "bss_av_digits.jsonl")
    arguments = parser.parse_args()
    compare(arguments.data, arguments.seeds, arguments.results)
    if arguments.time:
        measure_time(arguments.data, arguments.results)
    part, details = pages(arguments.results)
    write_section("bss", part)
    write_section("bss", details, page=PAGE)


if __name__ == "__main__":
    main()
