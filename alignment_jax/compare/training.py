"""Trains the runs of a seed group, in one program where possible, and evaluates each on test."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import evals, report
from alignment_jax.assembly.build import Built, with_seed
from alignment_jax.assembly.classifier import head_names, prediction_heads
from alignment_jax.assembly.tasks import task_of
from alignment_jax.compare.fusion_gain import learning_speeds
from alignment_jax.compare.item_scores import retrieval_items
from alignment_jax.core.types import PyTree
from alignment_jax.inference.analysis import analyse_models, embedding_arrays
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.report.metrics_log import encode_line
from alignment_jax.train.classification_objective import FUSED
from alignment_jax.train.evaluation import Classifier
from alignment_jax.train.loop import fit, placement_of
from alignment_jax.train.vmapped_seeds import fit_seeds, vmap_obstacle

HISTORY, ITEMS, EMBEDDINGS = "metrics.jsonl", "items.npz", "embeddings.npz"


class ComparisonPreempted(Exception):
    """SIGTERM or Ctrl-C stopped the comparison; the current run has saved a checkpoint.

    Args:
      stopped_by: "SIGTERM" or "Ctrl-C", see `train.loop.Finished`.
    """

    def __init__(self, stopped_by: str):
        super().__init__(stopped_by)
        self.stopped_by = stopped_by


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A finished run: its variables at the step that is best on val, its metrics there, and its cost."""

    built: Built
    variables: PyTree
    history: list[dict[str, Any]]
    val: dict[str, float]
    cost: dict[str, float | None]

    @property
    def seed(self) -> int:
        return self.built.experiment.seed


def train_seeds(
    built: Built, seeds: tuple[int, ...], folder_of: Callable[[int], pathlib.Path], *, quiet: bool
) -> Iterator[list[TrainedRun]]:
    """Trains one configuration with several seeds; yields all runs at once, or each run when it is finished.

    Args:
      built: of any seed; all seeds use its data, model and compiled step.
      seeds: to train.
      folder_of: seed -> folder for checkpoints while a run trains alone.
      quiet: show no progress of single runs.

    Raises:
      ComparisonPreempted: stopped by SIGTERM or Ctrl-C; the same call continues.
      RunError: a loss or gradient is not finite.
    """
    each = [with_seed(built, seed) for seed in seeds]
    if len(each) > 1 and not vmap_obstacle(built.experiment):
        meter = report.EnergyMeter()
        outcomes = fit_seeds([one.experiment for one in each])
        joules = _share(meter, len(each))
        yield [
            _trained_run(one, outcome.variables, outcome.history, outcome.steps, outcome.pairs, outcome.seconds, joules)
            for one, outcome in zip(each, outcomes, strict=True)
        ]
        return
    placement = placement_of(built.experiment)
    for one, seed in zip(each, seeds, strict=True):
        folder = folder_of(seed)
        meter = report.EnergyMeter()
        finished = fit(one.experiment, folder, quiet=quiet, tensorboard=False, placement=placement)
        if finished.preempted:
            raise ComparisonPreempted(finished.stopped_by)
        position = finished.position
        history = report.read_metrics(folder / HISTORY)
        joules = _share(meter, 1) if finished.cost["steps"] == position.step else None  # not known for a part of a run
        yield [_trained_run(one, finished.variables, history, position.step, position.pairs, position.seconds, joules)]
        shutil.rmtree(folder, ignore_errors=True)


def _share(meter: report.EnergyMeter, runs: int) -> float | None:
    joules = meter.joules()
    return None if joules is None else joules / runs


def _trained_run(
    built: Built,
    variables: PyTree,
    history: list[dict[str, Any]],
    steps: int,
    pairs: int,
    seconds: float,
    joules: float | None,
) -> TrainedRun:
    experiment = built.experiment
    best = report.best_row(history, experiment.plan.metric)
    row = next((row for row in history if best is not None and row["step"] == best[0]), {})
    val = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
    if not val and "val" in experiment.evaluations:  # 0 steps: nothing was logged
        val = experiment.evaluate(variables, experiment.evaluations["val"])
    cost: dict[str, float | None] = {
        "steps": steps,
        "pairs": pairs,
        "seconds": seconds,
        "device_seconds": seconds * len(experiment.devices),
        "energy_joules": joules,
    }
    return TrainedRun(built, variables, history, val, cost)


def evaluate_runs(
    runs: Sequence[TrainedRun], folders: Sequence[pathlib.Path], *, stress: str, keep_embeddings: Sequence[bool]
) -> list[dict[str, Any]]:
    """Test metrics and further analysis of runs that differ in their seed.

    Bitwise equal models, as from a closed form, are evaluated once.

    Args:
      runs: from one call of `train_seeds`.
      folders: of each run, for its arrays.
      stress: see `inference.analysis.analyse`.
      keep_embeddings: of each run, whether to store the embeddings for maps and galleries.

    Returns:
      For each `test`, `analysis`, and the files: `history`, `items`, `embeddings`.
    """
    for run, folder in zip(runs, folders, strict=True):
        report.write_bytes_atomic(folder / HISTORY, b"".join(map(encode_line, run.history)))
    first_of = [_first_equal(runs, k) for k in range(len(runs))]
    different = [k for k, first in enumerate(first_of) if first == k]
    aligns = task_of(ConfigDict(runs[0].built.experiment.config).model).aligns
    evaluated = (_evaluate_alignment if aligns else _evaluate_classifiers)(
        [runs[k] for k in different], [folders[k] for k in different], stress=stress
    )
    known = dict(zip(different, evaluated, strict=True))
    results = []
    for k, (run, folder) in enumerate(zip(runs, folders, strict=True)):
        found = {**known[first_of[k]], "history": folder / HISTORY, "embeddings": None}
        if keep_embeddings[k] and aligns:
            kept = embedding_arrays(SeedModels(run.built, [run.variables]))
            report.write_npz_atomic(folder / EMBEDDINGS, kept)
            found["embeddings"] = folder / EMBEDDINGS
        results.append(found)
    return results


def _first_equal(runs: Sequence[TrainedRun], k: int) -> int:
    """Position of the first run with the same model as run k."""
    own = jax.tree.leaves(runs[k].variables)

    def same(other: TrainedRun) -> bool:
        leaves = jax.tree.leaves(other.variables)
        return all(np.array_equal(x, y) for x, y in zip(own, leaves, strict=True))

    return next(number for number, other in enumerate(runs) if number == k or same(other))


def _evaluate_alignment(
    runs: Sequence[TrainedRun], folders: Sequence[pathlib.Path], *, stress: str
) -> list[dict[str, Any]]:
    models = SeedModels(runs[0].built, [run.variables for run in runs])
    analyses = analyse_models(models, stress=stress)
    results = []
    splits = zip(models.embedded("test"), models.folded("test"), strict=True)
    for number, (test, (embedded, folded), analysis, folder) in enumerate(
        zip(models.metrics("test"), splits, analyses, folders, strict=True)
    ):
        corrected = None if folded is None else folded.ranks
        report.write_npz_atomic(folder / ITEMS, retrieval_items(*embedded.ranks, embedded.owner, corrected=corrected))
        found = {"test": test, "analysis": analysis, "items": folder / ITEMS}
        if folded is not None and models.hubness is not None:
            found["hubness"] = str(models.hubness[number].correction)
        results.append(found)
    return results


def _evaluate_classifiers(
    runs: Sequence[TrainedRun], folders: Sequence[pathlib.Path], *, stress: str
) -> list[dict[str, Any]]:
    del stress  # noise is added to alignments alone
    results = []
    for run, folder in zip(runs, folders, strict=True):
        experiment, variables = run.built.experiment, run.variables
        test = experiment.evaluations["test"]
        classified = Classifier(experiment.model)(variables, test)
        heads = prediction_heads(ConfigDict(experiment.config).model, experiment.config["classification"]["predict"])
        found = evals.classification_metrics(classified, heads=heads)
        report.write_npz_atomic(folder / ITEMS, evals.head_items(classified, heads=heads))
        results.append(
            {
                "test": found,
                "analysis": {"balance": evals.balance(found), "learning": _learning(run)},
                "items": folder / ITEMS,
            }
        )
    return results


def _learning(run: TrainedRun) -> dict[str, float | None]:
    """Modality -> `report.learning_speed` of its head's accuracy on val; nothing without val."""
    val = run.built.splits.get("val")
    if val is None or val.label is None:
        return {}
    heads = head_names(ConfigDict(run.built.experiment.config).model)
    return learning_speeds(run.history, [head for head in heads if head != FUSED], val_label=val.label)
