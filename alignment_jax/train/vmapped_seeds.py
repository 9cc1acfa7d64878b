"""Trains several seeds of one run at once: the step is vmapped over the seeds.

Small models leave most of a device idle. With the training set on the device, one compiled loop advances all seeds.
Every seed has its own initial parameters, order, noise and best step on val. Its result is that of a separate run, up
to the rounding of other kernels.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import RunError
from alignment_jax.core.types import Batch, PyTree
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.device_data_set import step_loop
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.score_tracking import ScoreTracking
from alignment_jax.train.start import initial_state
from alignment_jax.train.state import TrainState, evaluation_variables
from alignment_jax.train.step import make_step

_MAX_STEPS = 32  # per call of the compiled loop


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """The run of one seed.

    variables: {"params", "model_state"} of the best step on val; of the last step without val.
    history: rows as in metrics.jsonl. best_step: -1 without val.
    """

    variables: PyTree
    history: list[dict[str, float]]
    best_step: int
    steps: int
    pairs: int
    seconds: float


def vmap_obstacle(experiment: Experiment) -> str:
    """Why the seeds of this run cannot be vmapped; "" if they can.

    >>> import types
    >>> vmap_obstacle(types.SimpleNamespace(tables=None))
    'its training set does not live on the device'
    """
    if experiment.tables is None:
        return "its training set does not live on the device"
    if len(experiment.devices) > 1:
        return "it runs on several devices"
    if experiment.model.frozen is not None:
        return "its frozen parameters would be copied for every seed"
    if isinstance(experiment.objective, ScoreTracking):
        return "its order depends on scores of the samples"
    if experiment.plan.patience:
        return "it may stop early, each seed at another step"
    return ""


def fit_seeds(
    experiments: Sequence[Experiment], *, progress: Callable[[int], None] = lambda step: None
) -> list[SeedResult]:
    """Trains runs that differ only in their seed.

    Writes no files: an interruption loses all of these runs.

    Args:
      experiments: with the same model, objective, optimizer, tables and plan, see `assembly.build.with_seed`.
      progress: called with the number of steps taken.

    Returns:
      One result per experiment, in the same order.

    Raises:
      ValueError: see `vmap_obstacle`.
      RunError: a loss or gradient is not finite; the message names the seed and the step.
    """
    for experiment in experiments:
        if reason := vmap_obstacle(experiment):
            raise ValueError(f"experiments: seed {experiment.seed} cannot be vmapped: {reason}")
    return _SeedRun(experiments, progress).train()


class _SeedRun:
    """One call of `fit_seeds`."""

    def __init__(self, experiments: Sequence[Experiment], progress: Callable[[int], None]):
        self.experiments = list(experiments)
        self.first = first = self.experiments[0]
        self.progress = progress
        step = make_step(
            first.objective,
            first.model.apply,
            first.optimizer,
            average_decay=first.plan.average_decay,
            accumulate=first.plan.accumulate,
            project=first.model.project,
        )
        self.run = jax.jit(jax.vmap(step_loop(step), in_axes=(0, None, 0, None)), donate_argnums=0)
        self.tables = jax.device_put(dict(first.tables or {}), first.devices[0])
        # Placed before the first step: uncommitted arrays would compile the step a second time.
        stacked = _stack(map(initial_state, self.experiments))
        self.state: TrainState = jax.device_put(stacked, first.devices[0])
        self.step = self.epochs = self.pairs = 0
        self.best_step = np.full(len(self.experiments), -1)
        self.best_value = np.full(len(self.experiments), -math.inf)
        self.best_variables: PyTree = None
        self.history: list[list[dict[str, float]]] = [[] for _ in self.experiments]

    def train(self) -> list[SeedResult]:
        started = time.monotonic()
        epoch = 0
        if self.first.plan.evaluate_start:
            self._after(0, {})  # no metrics yet, but an evaluation
        while self.step < self.first.plan.total_steps:
            self._epoch(epoch)
            epoch += 1
        jax.block_until_ready(self.state)
        seconds = (time.monotonic() - started) / len(self.experiments)
        last = evaluation_variables(self.state)
        if self.best_variables is not None:
            last = _chosen(self.best_step >= 0, self.best_variables, last)
        return [
            SeedResult(_of_seed(last, k), self.history[k], int(self.best_step[k]), self.step, self.pairs, seconds)
            for k in range(len(self.experiments))
        ]

    def _epoch(self, epoch: int) -> None:
        plan = self.first.plan
        rows = [
            batch_rows(e.sampler.order({}, epoch), batch_size=e.batch_size, halves=e.halves) for e in self.experiments
        ]
        sources = [iter(e.batches(r, epoch, 0)) for e, r in zip(self.experiments, rows, strict=True)]
        done = 0
        while done < len(rows[0]) and self.step < plan.total_steps:
            count = min(_MAX_STEPS, plan.steps_ahead(self.step), len(rows[0]) - done)
            chunk = [list(itertools.islice(batches, count)) for batches in sources]
            self.state, metrics = self.run(self.state, self.tables, _stacked(chunk), np.int32(count))
            self.pairs += int(np.sum(rows[0][done : done + count] >= 0))
            self.step += count
            done += count
            self.progress(self.step)
            self._after(epoch + 1, metrics)

    def _after(self, epochs: int, metrics: Any) -> None:
        plan, step = self.first.plan, self.step
        log_due = plan.due(step, plan.log_every)
        evaluate_due = plan.due(step, plan.evaluate_every) or not metrics  # before the first step
        if not (log_due or evaluate_due):
            return
        log_due = log_due and bool(metrics)
        metrics = jax.device_get(metrics)
        self._check_finite(metrics)
        judged = self._judged() if evaluate_due and "val" in self.first.evaluations else None
        for k, experiment in enumerate(self.experiments):
            row: dict[str, float] = {}
            if log_due:
                row |= {f"train/{name}": float(value[k]) for name, value in metrics.items()}
                row |= {"train/learning_rate": experiment.learning_rate(step - 1), "train/share_shown": 1.0}
            if judged is not None:
                row |= judged[k]
            if row:
                self.history[k].append({"step": step, "epoch": epochs, **row})

    def _judged(self) -> list[dict[str, float]]:
        """Metrics on val of every seed; keeps the variables of each seed's best step."""
        variables, metric = evaluation_variables(self.state), self.first.plan.metric
        values = [
            {f"val/{name}": value for name, value in found.items()}
            for found in self._evaluate(variables, last=self.step >= self.first.plan.total_steps)
        ]
        if metric not in values[0]:
            known = ", ".join(sorted(values[0]))
            raise RunError(f"eval.metric is {metric!r}, which the evaluation does not give; it gives {known}")
        scores = np.array([found[metric] for found in values])
        better = scores > self.best_value
        if better.any():
            # A copy: the training step donates the buffers of the state.
            kept = jax.tree.map(jnp.copy, variables)
            self.best_variables = kept if better.all() else _chosen(better, kept, self.best_variables)
            self.best_step = np.where(better, self.step, self.best_step)
            self.best_value = np.where(better, scores, self.best_value)
        return values

    def _evaluate(self, variables: PyTree, *, last: bool) -> list[dict[str, float]]:
        experiment = self.first
        split = experiment.evaluations["val"]
        if experiment.evaluate_seeds_for_log is not None:
            return experiment.evaluate_seeds_for_log(variables, split, last)
        return [experiment.log_metrics(_of_seed(variables, k), split, last) for k in range(len(self.experiments))]

    def _check_finite(self, metrics: dict[str, np.ndarray]) -> None:
        bad = np.asarray(self.state.bad_step)
        for k in np.flatnonzero(bad >= 0):
            wrong = [f"{name} = {float(x[k])}" for name, x in sorted(metrics.items()) if not np.isfinite(x[k])]
            raise RunError(
                f"seed {self.experiments[k].seed}, step {int(bad[k]) + 1}: {', '.join(wrong) or 'loss or gradient'} is "
                "not finite; training stopped. Lower optimizer.learning_rate, raise temperature.min or check the input"
            )


def _stack(trees: Iterable[PyTree]) -> PyTree:
    """One tree with leaves [seeds, ...]."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _of_seed(tree: PyTree, k: int) -> PyTree:
    return jax.tree.map(lambda x: x[k], tree)


def _chosen(of_first: np.ndarray, first: PyTree, second: PyTree) -> PyTree:
    """Leaves [seeds, ...] of the first tree for the seeds where `of_first` is true, of the second elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(jnp.reshape(of_first, (-1,) + (1,) * (x.ndim - 1)), x, y), first, second)


def _stacked(chunk: Sequence[Sequence[Batch]]) -> dict[str, np.ndarray]:
    """Batches of every seed as arrays [seeds, steps, n, ...], padded to one number of steps."""

    def of_seed(batches: Sequence[Batch]) -> dict[str, np.ndarray]:
        unused = [batches[0]] * (_MAX_STEPS - len(batches))
        return {name: np.stack([batch[name] for batch in (*batches, *unused)]) for name in batches[0]}

    seeds = [of_seed(batches) for batches in chunk]
    return {name: np.stack([one[name] for one in seeds]) for name in seeds[0]}


__getattr__ = renamed_names(
    __name__, {"fit_together": "fit_seeds", "Outcome": "SeedResult", "obstacle": "vmap_obstacle"}
)
