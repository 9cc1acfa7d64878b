"""The host's side of training: the only place that holds iterators, time, files and signals."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from alignment_jax import evals, report
from alignment_jax.core.errors import RunError
from alignment_jax.core.types import Batch, PyTree
from alignment_jax.train import checkpoint, processes
from alignment_jax.train.batching import batch_rows, scoring_rows
from alignment_jax.train.device_data_set import DeviceDataSet
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.objective import Metrics
from alignment_jax.train.preemption import StopRequest, preemption
from alignment_jax.train.score_pass import ScorePass
from alignment_jax.train.score_tracking import ScoreTracking
from alignment_jax.train.state import TrainState, create_state, evaluation_params
from alignment_jax.train.step import Placement, make_step
from alignment_jax.train.workdir import can_resume

# Chunks whose numbers are kept until someone looks whether they are finite.
_MOST_UNCHECKED = 256


@dataclasses.dataclass
class Position:
    """Where the run stands, as plain JSON values: the next batch, the best so far, what it has cost.

    total_steps: of the plan that it followed; 0 in checkpoints of earlier versions.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    pairs: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_value: float = -math.inf
    evaluations_since_best: int = 0
    stopped_early: bool = False
    total_steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: before the first evaluation the best value is None."""
        return {**dataclasses.asdict(self), "best_value": self.best_value if self.best_step >= 0 else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Position:
        return cls(**{**values, "best_value": -math.inf if values["best_value"] is None else values["best_value"]})


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a run ended.

    variables: {"params", "model_state"} of the best step on val (of the last step where there is no val).
    preempted: it was stopped by SIGTERM or Ctrl-C and saved; the same command goes on.
    stopped_by: "SIGTERM", "Ctrl-C" or "".
    """

    position: Position
    variables: PyTree
    preempted: bool
    cost: dict[str, float]
    stopped_by: str = ""


def evaluation_variables(state: TrainState) -> PyTree:
    """What a trained model is: the parameters to evaluate and the model's other collections."""
    return {"params": evaluation_params(state), "model_state": state.model_state}


def initial_state(experiment: Experiment) -> TrainState:
    """The state before the first step, a function of the seed alone."""
    init_key, train_key = jax.random.split(jax.random.key(experiment.seed))
    params, model_state = experiment.model.init(init_key, *experiment.first_batch)
    return create_state(
        params=params,
        model_state=model_state,
        optimizer=experiment.optimizer,
        method_state=experiment.objective.init(),
        key=train_key,
        averaged=experiment.plan.average_decay > 0.0,
    )


def placement_of(experiment: Experiment) -> Placement:
    """The compiled training step of an experiment; runs that differ in nothing but their seed may share it."""
    return Placement(
        experiment.devices,
        lambda axis_name: make_step(
            experiment.objective,
            experiment.model.apply,
            experiment.optimizer,
            axis_name=axis_name,
            average_decay=experiment.plan.average_decay,
            accumulate=experiment.plan.accumulate,
            project=experiment.model.project,
        ),
    )


def fit(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    quiet: bool = False,
    tensorboard: bool = True,
    placement: Placement | None = None,
) -> Finished:
    """Trains, or goes on where the checkpoints of `workdir` stand, to the same bits as without the interruption.

    Args:
      experiment: the run.
      workdir: gets metrics.jsonl, log.txt, tensorboard/ and checkpoints/.
      quiet: show no progress (it is in log.txt all the same).
      tensorboard: write event files too.
      placement: of the same experiment with another seed, see `placement_of`; None for one of its own.

    Raises:
      RunError: a loss or gradient is not finite, or checkpoints cannot be written or read.
      KeyboardInterrupt: Ctrl-C came when all steps were done; everything is saved.
    """
    workdir = workdir.absolute()  # orbax finds nothing by a relative path
    plan = experiment.plan
    primary = processes.is_primary()
    with processes.convert_jax_errors(), contextlib.ExitStack() as stack:
        # Messages can come from the checkpoints before the progress display exists.
        early: list[str] = []
        checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=plan.keep_checkpoints, message=early.append)
        stack.callback(checkpoints.close)
        placement = placement_of(experiment) if placement is None else placement
        state = placement.put_state(initial_state(experiment))
        restored = checkpoints.restore(checkpoint.abstract(state, placement.replicated))
        position = Position()
        if restored is not None:
            state, position = restored.state, Position.from_json(restored.loop)
        if experiment.extension_message or position.total_steps not in (
            0,
            plan.total_steps,
        ):  # it has new steps to improve in
            position.stopped_early, position.evaluations_since_best = False, 0
        position.total_steps = plan.total_steps
        checkpoints.delete_after(position.step, kind=checkpoint.BEST)

        # Not by the folder's managers, which belong to this thread.
        stop = stack.enter_context(
            preemption(lambda: can_resume(workdir))
        )  # before the first line that says that the run is under way
        progress = stack.enter_context(
            report.Progress(
                plan.total_steps,
                position.step,
                workdir / "log.txt" if primary else None,
                pairs_per_step=experiment.batch_size,
                quiet=quiet or not primary,
                device_memory=lambda: _device_memory(jax.local_devices()[0]),
            )
        )
        begins = experiment.messages if restored is None else filter(None, (experiment.extension_message,))
        for line in (*early, *begins):
            progress.message(line)
        if position.step:
            progress.message(f"resumed at step {position.step} of {plan.total_steps}")
        # Without a checkpoint even a row of step 0 is written again.
        written = position.step if restored is not None else -1
        log = stack.enter_context(_Log(workdir, written, primary=primary, tensorboard=tensorboard))
        run = _Run(experiment, placement, checkpoints, progress, log, state, position, stop)
        run.ensure_best()
        run.train()
        checkpoints.wait()
        if run.preempted:
            progress.message(f"stopped by {stop.by} at step {position.step}, saved; run the same command to go on")
        elif stop.by == "Ctrl-C":  # it came too late to stop the training, but what follows takes time, too
            raise KeyboardInterrupt
        return Finished(position, run.best_variables(), run.preempted, progress.totals(), stop.by)


class _Run:
    """One call of `fit`: the mutable things in one place, one method a concern."""

    def __init__(self, experiment, placement, checkpoints, progress, log, state, position, stop):
        self.experiment: Experiment = experiment
        self.placement: Placement = placement
        self.advance: Callable[[TrainState, Sequence[Batch]], tuple[TrainState, Metrics]] = self._stream
        self.most_steps = 1
        if experiment.tables is not None:
            self.advance = resident = DeviceDataSet(placement, experiment.tables)
            self.most_steps = resident.most
        self.checkpoints: checkpoint.Checkpoints = checkpoints
        self.progress: report.Progress = progress
        self.log: _Log = log
        self.state: TrainState = state
        self.position: Position = position
        self.stop: StopRequest = stop
        self.preempted = False
        self._unchecked: list[tuple[int, Metrics]] = []
        self._scorer = None
        if isinstance(experiment.objective, ScoreTracking):
            self._scorer = ScorePass(experiment.objective, experiment.model.apply, placement)
        self._share_shown = 1.0
        self._collapsed: set[str] = set()
        self._clock = time.monotonic()

    def train(self) -> None:
        plan, position = self.experiment.plan, self.position
        if plan.evaluate_start and position.step == 0 and position.best_step < 0:
            self._after_step(None)
        if position.step < plan.total_steps:
            self.progress.message("compiling the training step; the time left is shown once the speed is known")
        while position.step < plan.total_steps and not (self.preempted or position.stopped_early):
            self._epoch()

    def _epoch(self) -> None:
        experiment, plan, position = self.experiment, self.experiment.plan, self.position
        rows = batch_rows(
            self._order(),
            batch_size=experiment.batch_size,
            devices=len(experiment.devices),
            halves=experiment.halves,
        )
        own = rows[:, self.placement.local_columns(rows.shape[1])]
        batches = iter(experiment.batches(own, position.epoch, position.batch))
        # As many steps at once as there are before the host has something to do.
        while chunk := list(itertools.islice(batches, min(self.most_steps, plan.steps_ahead(position.step)))):
            self.state, metrics = self.advance(self.state, chunk)
            self.placement.sync_cpu_devices(metrics["loss"])
            pairs = int(np.sum(rows[position.batch : position.batch + len(chunk)] >= 0))
            position.step += len(chunk)
            position.batch += len(chunk)
            position.pairs += pairs
            end_of_epoch = position.batch == len(rows)
            if end_of_epoch:
                position.epoch, position.batch = position.epoch + 1, 0
            self._unchecked.append((position.step, metrics))
            if len(self._unchecked) >= _MOST_UNCHECKED:
                self._check_finite()
            self.progress.update(position.step, {"loss": metrics["loss"]}, pairs=pairs)
            self.preempted = self.stop(position.step - len(chunk), position.step)
            self._after_step(metrics)
            if self.preempted or position.stopped_early or position.step >= plan.total_steps:
                return

    def _order(self) -> np.ndarray:
        """The samples of this epoch; where it only begins, the scores that are due are taken first."""
        sampler, epoch = self.experiment.sampler, self.position.epoch
        if self._scorer is None:
            return sampler.order({}, epoch)
        if sampler.due(epoch) and self.position.batch == 0:
            self._check_finite()
            state = self.state.method_state
            if sampler.recycles:
                scores = sampler.scores_from_running(_on_host(state["running"]), _on_host(state["seen"]))
            else:
                scores = sampler.scores_from_pass(self._scorer(self.state, self._every_sample()))
            scores = processes.put_from_primary(scores, self.placement.replicated)
            self.state = dataclasses.replace(self.state, method_state={**state, "scores": scores})
        known = _on_host(self.state.method_state["scores"])
        order = processes.compute_on_primary(lambda: {"order": sampler.order(known, epoch)})["order"]
        self._share_shown = len(order) / sampler.size
        return order

    def _every_sample(self) -> Iterator[Batch]:
        """This process's rows of the batches that measure the whole training set."""
        experiment = self.experiment
        assert experiment.scoring_batches is not None
        size, devices = experiment.sampler.size, len(experiment.devices)
        rows = scoring_rows(size, batch_size=experiment.batch_size, devices=devices)
        return experiment.scoring_batches(rows[:, self.placement.local_columns(rows.shape[1])])

    def _stream(self, state: TrainState, chunk: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        (batch,) = chunk
        state, metrics, _ = self.placement.run(state, self.placement.put_batch(batch))
        return state, metrics

    def _after_step(self, metrics: Metrics | None) -> None:
        """What is due now: log line, evaluation, checkpoint; there are no metrics yet before the first step."""
        plan, position = self.experiment.plan, self.position
        step = position.step
        log_due = plan.due(step, plan.log_every)
        # The start has no metrics, and is only looked at because it is a candidate, whatever the interval.
        evaluate_due = plan.due(step, plan.evaluate_every) or metrics is None
        save_due = plan.due(step, plan.save_every) or evaluate_due
        if not (log_due or save_due or self.preempted):
            return
        self._check_finite()
        row: dict[str, float] = {}
        if log_due and metrics is not None:
            row |= {f"train/{name}": float(value) for name, value in jax.device_get(metrics).items()}
            row["train/learning_rate"] = self.experiment.learning_rate(step - 1)
            row["train/share_shown"] = self._share_shown
        improved = False
        if evaluate_due and "val" in self.experiment.evaluations:
            values = self._evaluate("val")
            row |= values
            improved = self._judge(values)
        if row:
            epochs = position.epoch if position.batch == 0 else position.epoch + 1
            self.log.write(step, row, epoch=epochs)
        now = time.monotonic()
        position.seconds, self._clock = position.seconds + now - self._clock, now
        if improved or ("val" not in self.experiment.evaluations and step == plan.total_steps):
            self._save_best()
        if save_due or self.preempted:
            self.checkpoints.save(step, self.state, position.to_json())

    def _evaluate(self, name: str) -> dict[str, float]:
        experiment, variables = self.experiment, evaluation_variables(self.state)
        last = self.position.step >= experiment.plan.total_steps
        with self.progress.pause():
            found = processes.compute_on_primary(
                lambda: experiment.log_metrics(variables, experiment.evaluations[name], last)
            )
        values = {f"{name}/{key}": value for key, value in found.items()}
        results = {key: value for key, value in report.as_percent(found).items() if _is_result(key)}
        shown = report.metrics_line(results, experiment.names)
        self.progress.message(f"step {self.position.step}, {name}: {shown}")
        self._warn_of_collapse(found)
        return values

    def _warn_of_collapse(self, found: dict[str, float]) -> None:
        """Says it when a side collapses, not again while it stays so."""
        sides = set(evals.collapsed_sides(found))
        if sides - self._collapsed:
            warning = evals.collapse_warning(found, names=self.experiment.names)
            self.progress.message(f"warning: step {self.position.step}: {warning}")
        self._collapsed = sides

    def _judge(self, values: dict[str, float]) -> bool:
        """Whether this evaluation is the best so far; counts the ones in a row that are not."""
        plan, position = self.experiment.plan, self.position
        if plan.metric not in values:
            known = ", ".join(sorted(values))
            raise RunError(f"eval.metric is {plan.metric!r}, which the evaluation does not give; it gives {known}")
        if values[plan.metric] > position.best_value:
            position.best_step, position.best_value = position.step, values[plan.metric]
            position.evaluations_since_best = 0
            return True
        position.evaluations_since_best += 1
        if plan.patience and position.evaluations_since_best >= plan.patience and position.step < plan.total_steps:
            position.stopped_early = True
            self.progress.message(
                f"stopped early at step {position.step}: {plan.metric} has not improved for {plan.patience} evaluations"
            )
        return False

    def _check_finite(self) -> None:
        """Stops the run at the first non-finite step; the state still is what it was before that step."""
        bad = int(self.state.bad_step)
        unchecked, self._unchecked = self._unchecked, []
        if bad < 0:
            return
        found: Metrics = next((jax.device_get(metrics) for step, metrics in unchecked if step > bad), {})
        wrong = ", ".join(f"{name} = {float(v)}" for name, v in sorted(found.items()) if not np.isfinite(v))
        context = ", ".join(
            f"{name} = {float(found[name]):.4g}" for name in ("temperature_min", "positive_similarity") if name in found
        )
        raise RunError(
            f"step {bad + 1}: {wrong or 'loss or gradient'} is not finite ({context}); training stopped and the last "
            "good checkpoint is kept. Lower optimizer.learning_rate, raise temperature.min or check the input, and "
            "start again in another --workdir"
        )

    def ensure_best(self) -> None:
        """After a restart: where the best model on val is damaged, the one at hand takes its place, and says so."""
        position = self.position
        if position.best_step < 0:
            return
        problem, _ = self._saved_best()
        if problem:
            self.progress.message(
                f"checkpoint best/{position.best_step} is damaged ({problem}); the model of step {position.step} takes "
                "its place"
            )
            self.checkpoints.set_aside(position.best_step, kind=checkpoint.BEST)
            position.best_step, position.best_value = -1, -math.inf
            self._judge(self._evaluate("val"))
            self._save_best()

    def best_variables(self) -> PyTree:
        """The variables of the best step on val, as they were saved; of the last step where there is none."""
        if self.preempted or self.position.best_step < 0:
            return evaluation_variables(self.state)
        problem, restored = self._saved_best()
        if restored is None:
            raise RunError(f"checkpoint best/{self.position.best_step} is damaged ({problem}); run the command again")
        return restored.state

    def _saved_best(self) -> tuple[str, checkpoint.Restored | None]:
        target = checkpoint.abstract(evaluation_variables(self.state), self.placement.replicated)
        return self.checkpoints.read(self.position.best_step, target, kind=checkpoint.BEST)

    def _save_best(self) -> None:
        position = self.position
        variables = evaluation_variables(self.state)
        self.checkpoints.save(position.step, variables, position.to_json(), kind=checkpoint.BEST)


def _is_result(key: str) -> bool:
    """Whether a value of an evaluation says how good the model is, rather than how it is doing."""
    return not key.startswith(("variance_", "participation_", "effective_rank_"))


def _on_host(tree: PyTree) -> PyTree:
    """Replicated arrays as arrays of this process."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


class _Log:
    """metrics.jsonl and TensorBoard together; rows after the step a run resumes from are dropped first."""

    def __init__(self, workdir: pathlib.Path, step: int, *, primary: bool, tensorboard: bool):
        self._metrics = report.MetricsLog(workdir / "metrics.jsonl") if primary else None
        if self._metrics is not None:
            self._metrics.truncate_after(step)
        self._tensorboard = None
        if primary and tensorboard:
            self._tensorboard = report.TensorBoardLog(workdir / "tensorboard", resume_step=step)

    def write(self, step: int, row: dict[str, float], *, epoch: int) -> None:
        if self._metrics is not None:
            self._metrics.write(step, row, epoch=epoch)
        if self._tensorboard is not None:
            self._tensorboard.write(step, row)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *exc: object) -> None:
        for log in (self._metrics, self._tensorboard):
            if log is not None:
                log.close()


def _device_memory(device: jax.Device) -> int | None:
    """Bytes in use on a device, where its backend counts them (the CPU's does not)."""
    statistics = device.memory_stats()
    return None if statistics is None else statistics.get("bytes_in_use")
