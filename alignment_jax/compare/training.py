"""Trains the runs of a group, together where they can be, and measures each on test."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import report
from alignment_jax.assembly.build import Built, with_seed
from alignment_jax.assembly.classifier import prediction_heads
from alignment_jax.assembly.tasks import task_of
from alignment_jax.compare.item_scores import of_classification, of_retrieval
from alignment_jax.core.types import PyTree
from alignment_jax.inference.analysis import analyse, analyse_models, embedding_arrays
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.report.metrics_log import encode_line
from alignment_jax.train.evaluation import Classifier
from alignment_jax.train.loop import fit, placement_of
from alignment_jax.train.vmapped_seeds import fit_seeds, vmap_obstacle

HISTORY, ITEMS, EMBEDDINGS = "metrics.jsonl", "items.npz", "embeddings.npz"


class Preempted(Exception):
    """SIGTERM or Ctrl-C came, and the run at hand has saved itself.

    Args:
      stopped_by: which of the two, see `train.loop.Finished`.
    """

    def __init__(self, stopped_by: str):
        super().__init__(stopped_by)
        self.stopped_by = stopped_by


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
      Preempted: stopped by SIGTERM or Ctrl-C; the same call goes on.
      RunError: a loss or gradient is not finite.
    """
    each = [with_seed(built, seed) for seed in seeds]
    if len(each) > 1 and not vmap_obstacle(built.experiment):
        meter = report.EnergyMeter()
        outcomes = fit_seeds([one.experiment for one in each])
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
            raise Preempted(finished.stopped_by)
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


def measure(
    several: Sequence[Trained], folders: Sequence[pathlib.Path], *, stress: str, keep_embeddings: Sequence[bool]
) -> list[dict[str, Any]]:
    """The test metrics and the further analysis of trainings that differ in their seed.

    Models that are equal to the bit, as those of a closed form, are measured once.

    Args:
      several: from one call of `train_seeds`.
      folders: of each, where its larger arrays go.
      stress: see `config.analysis.analyse`.
      keep_embeddings: of each, whether what maps and galleries are drawn from is kept.

    Returns:
      For each `test`, `analysis`, and the files: `history`, `items`, `embeddings`.
    """
    for trained, folder in zip(several, folders, strict=True):
        report.write_bytes_atomic(folder / HISTORY, b"".join(map(encode_line, trained.history)))
    first_of = [_first_equal(several, k) for k in range(len(several))]
    different = [k for k, first in enumerate(first_of) if first == k]
    aligns = task_of(ConfigDict(several[0].built.experiment.config).model).aligns
    measured = (_measured_alignments if aligns else _measured_classifiers)(
        [several[k] for k in different], [folders[k] for k in different], stress=stress
    )
    known = dict(zip(different, measured, strict=True))
    results = []
    for k, (trained, folder) in enumerate(zip(several, folders, strict=True)):
        found = {**known[first_of[k]], "history": folder / HISTORY, "embeddings": None}
        if keep_embeddings[k] and aligns:
            kept = embedding_arrays(SeedModels(trained.built, [trained.variables]))
            report.write_npz_atomic(folder / EMBEDDINGS, kept)
            found["embeddings"] = folder / EMBEDDINGS
        results.append(found)
    return results


def _first_equal(several: Sequence[Trained], k: int) -> int:
    """The number of the first training whose model is that of number k."""
    own = jax.tree.leaves(several[k].variables)

    def same(other: Trained) -> bool:
        leaves = jax.tree.leaves(other.variables)
        return all(np.array_equal(x, y) for x, y in zip(own, leaves, strict=True))

    return next(number for number, other in enumerate(several) if number == k or same(other))


def _measured_alignments(
    several: Sequence[Trained], folders: Sequence[pathlib.Path], *, stress: str
) -> list[dict[str, Any]]:
    models = SeedModels(several[0].built, [one.variables for one in several])
    analyses = analyse_models(models, stress=stress)
    results = []
    for test, embedded, analysis, folder in zip(
        models.metrics("test"), models.embedded("test"), analyses, folders, strict=True
    ):
        report.write_npz_atomic(folder / ITEMS, of_retrieval(*embedded.ranks, embedded.owner))
        results.append({"test": test, "analysis": analysis, "items": folder / ITEMS})
    return results


def _measured_classifiers(
    several: Sequence[Trained], folders: Sequence[pathlib.Path], *, stress: str
) -> list[dict[str, Any]]:
    results = []
    for trained, folder in zip(several, folders, strict=True):
        experiment, variables = trained.built.experiment, trained.variables
        test = experiment.evaluations["test"]
        classified = Classifier(experiment.model)(variables, test)
        heads = prediction_heads(
            ConfigDict(experiment.config).model, experiment.config["classification"]["predict"]
        ) or tuple(classified.logits)
        items = of_classification(np.sum([classified.logits[name] for name in heads], axis=0), classified.label)
        report.write_npz_atomic(folder / ITEMS, items)
        results.append(
            {
                "test": experiment.evaluate(variables, test),
                "analysis": analyse(trained.built, variables, stress=stress),
                "items": folder / ITEMS,
            }
        )
    return results
