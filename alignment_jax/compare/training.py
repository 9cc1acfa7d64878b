"""Trains the runs of a group, together where they can be, and measures each on test."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import metrics, report
from alignment_jax.compare.items import of_classification, of_retrieval
from alignment_jax.config.analysis import analyse, kept_embeddings
from alignment_jax.config.build import Built, with_seed
from alignment_jax.config.classification import prediction_heads
from alignment_jax.config.tasks import task_of
from alignment_jax.core.types import PyTree
from alignment_jax.report.metrics_log import encode_line
from alignment_jax.train.evaluation import Classifier, Evaluator
from alignment_jax.train.loop import fit, placement_of
from alignment_jax.train.together import fit_together, obstacle

HISTORY, ITEMS, EMBEDDINGS = "metrics.jsonl", "items.npz", "embeddings.npz"


class Preempted(Exception):
    """SIGTERM came, and the run at hand has saved itself."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """One finished training: its variables of the best step on val, and what it took."""

    built: Built
    variables: PyTree
    history: list[dict[str, Any]]
    val: dict[str, float]
    cost: dict[str, float | None]


def train_seeds(
    built: Built, seeds: tuple[int, ...], folder_of: Callable[[int], pathlib.Path], *, quiet: bool
) -> Iterator[list[Trained]]:
    """Trains the same configuration with several seeds and yields them as they are done: all together, or one by one.

    Args:
      built: of any seed.
      seeds: all of them start from `built`'s data, model and compiled step.
      folder_of: where a run of its own keeps its checkpoints until it is done.
      quiet: show no progress of single runs.

    Raises:
      Preempted: stopped by SIGTERM; the same call goes on.
      RunError: a loss or gradient is not finite.
    """
    each = [with_seed(built, seed) for seed in seeds]
    if len(each) > 1 and not obstacle(built.experiment):
        meter = report.EnergyMeter()
        outcomes = fit_together([one.experiment for one in each])
        joules = _share(meter, len(each))
        yield [
            _trained(one, outcome.variables, outcome.history, outcome.steps, outcome.pairs, outcome.seconds, joules)
            for one, outcome in zip(each, outcomes, strict=True)
        ]
        return
    placement = placement_of(built.experiment)
    for one, seed in zip(each, seeds, strict=True):
        folder = folder_of(seed)
        meter = report.EnergyMeter()
        finished = fit(one.experiment, folder, quiet=quiet, tensorboard=False, placement=placement)
        if finished.preempted:
            raise Preempted
        position = finished.position
        history = report.read_metrics(folder / HISTORY)
        joules = _share(meter, 1) if finished.cost["steps"] == position.step else None  # of a whole run or not at all
        yield [_trained(one, finished.variables, history, position.step, position.pairs, position.seconds, joules)]
        shutil.rmtree(folder, ignore_errors=True)


def _share(meter: report.EnergyMeter, runs: int) -> float | None:
    joules = meter.joules()
    return None if joules is None else joules / runs


def _trained(
    built: Built,
    variables: PyTree,
    history: list[dict[str, Any]],
    steps: int,
    pairs: int,
    seconds: float,
    joules: float | None,
) -> Trained:
    experiment = built.experiment
    best = report.best_row(history, experiment.plan.metric)
    row = next((row for row in history if best is not None and row["step"] == best[0]), {})
    val = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
    if not val and "val" in experiment.evaluations:  # nothing was trained, so nothing was logged
        val = experiment.evaluate(variables, experiment.evaluations["val"])
    cost: dict[str, float | None] = {
        "steps": steps,
        "pairs": pairs,
        "seconds": seconds,
        "device_seconds": seconds * len(experiment.devices),
        "energy_joules": joules,
    }
    return Trained(built, variables, history, val, cost)


def measure(trained: Trained, folder: pathlib.Path, *, stress: str, keep_embeddings: bool) -> dict[str, Any]:
    """The test metrics and the further analysis of a training; its larger arrays go to `folder`.

    Returns:
      `test`, `analysis`, and the names of the files: `history`, `items`, `embeddings`.
    """
    built, variables = trained.built, trained.variables
    experiment = built.experiment
    config = ConfigDict(experiment.config)
    test = experiment.evaluations["test"]
    report.write_bytes_atomic(folder / HISTORY, b"".join(map(encode_line, trained.history)))
    found: dict[str, Any] = {"test": experiment.evaluate(variables, test), "history": HISTORY, "embeddings": None}
    if task_of(config).aligns:
        evaluator = Evaluator(experiment.model)
        embedded = evaluator(variables, test)
        ranks = metrics.retrieval_ranks(embedded.a, embedded.b, embedded.b_to_a)
        rank_ab, rank_ba = jax.device_get(ranks)
        items = of_retrieval(rank_ab, rank_ba, embedded.b_to_a)
        found["analysis"] = analyse(built, variables, stress=stress, evaluator=evaluator)
        if keep_embeddings:
            kept = kept_embeddings(built, variables, evaluator=evaluator)
            report.write_npz_atomic(folder / EMBEDDINGS, kept)
            found["embeddings"] = EMBEDDINGS
    else:
        classified = Classifier(experiment.model)(variables, test)
        heads = prediction_heads(config) or tuple(classified.logits)
        items = of_classification(np.sum([classified.logits[name] for name in heads], axis=0), classified.label)
        found["analysis"] = analyse(built, variables, stress=stress)
    report.write_npz_atomic(folder / ITEMS, items)
    found["items"] = ITEMS
    return found
