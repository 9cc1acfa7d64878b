"""The training loop: epochs, steps, and the actions due between them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Sequence

import jax
import numpy as np

from alignment_jax import report
from alignment_jax.core.types import PyTree
from alignment_jax.train import checkpoint, processes
from alignment_jax.train.best_checkpoint import BestCheckpoint
from alignment_jax.train.device_data_set import DeviceDataSet
from alignment_jax.train.diagnostics import StepProfile, nan_check
from alignment_jax.train.due import DUE_BEFORE_TRAINING, Due, due_after
from alignment_jax.train.epoch_order import EpochOrder
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.finite_check import FiniteCheck
from alignment_jax.train.metrics_writer import MetricsWriter
from alignment_jax.train.objective import Metrics
from alignment_jax.train.periodic_evaluation import PeriodicEvaluation
from alignment_jax.train.position import Position
from alignment_jax.train.preemption import StopRequest, preemption
from alignment_jax.train.start import initial_state, placed_initial_state, placement_of
from alignment_jax.train.state import TrainState, evaluation_variables, with_frozen, without_frozen
from alignment_jax.train.step import Placement, SingleSteps
from alignment_jax.train.workdir import can_resume

__all__ = ["Finished", "Position", "evaluation_variables", "fit", "initial_state", "placement_of"]


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a run ended.

    variables: {"params", "model_state"} of the best step on val (of the last step without val).
    preempted: stopped by SIGTERM or Ctrl-C and saved; the same command resumes it.
    stopped_by: "SIGTERM", "Ctrl-C" or "".
    """

    position: Position
    variables: PyTree
    preempted: bool
    cost: dict[str, float]
    stopped_by: str = ""


def fit(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    quiet: bool = False,
    tensorboard: bool = True,
    writers: Sequence[str] = (),
    placement: Placement | None = None,
) -> Finished:
    """Trains, or resumes from the checkpoints in `workdir`, with the same bits as an uninterrupted run.

    Args:
      experiment: the run.
      workdir: gets metrics.jsonl, log.txt, tensorboard/ and checkpoints/.
      quiet: print no progress; log.txt has it in any case.
      tensorboard: write event files too.
      writers: further names of `report.METRIC_WRITERS`.
      placement: of the same experiment with another seed, see `placement_of`; None compiles a new one.

    Raises:
      RunError: a loss or gradient is not finite, or checkpoints cannot be written or read.
      KeyboardInterrupt: Ctrl-C after the last step; everything is saved.
    """
    workdir = workdir.absolute()  # orbax finds nothing by a relative path
    plan, primary = experiment.plan, processes.is_primary()
    with processes.convert_jax_errors(), contextlib.ExitStack() as stack:
        early: list[str] = []  # messages of the checkpoints, before there is a progress display
        checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=plan.keep_checkpoints, message=early.append)
        stack.callback(checkpoints.close)
        placement = placement_of(experiment) if placement is None else placement
        state = placed_initial_state(experiment, placement)
        target = without_frozen(state)
        restored = checkpoints.restore(checkpoint.abstract(target, placement.shardings(target)))
        position = Position()
        if restored is not None:
            state, position = with_frozen(restored.state, state), Position.from_json(restored.loop)
        if experiment.extension_message or position.total_steps not in (0, plan.total_steps):
            position.stopped_early, position.evaluations_since_best = False, 0  # a longer run may improve again
        position.total_steps = plan.total_steps
        checkpoints.delete_after(position.step, kind=checkpoint.BEST)

        # Before the first line of progress: a reader of that line may send a signal.
        # `can_resume`, not `checkpoints`: it is called from another thread.
        stop = stack.enter_context(preemption(lambda: can_resume(workdir)))
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
        first = experiment.messages if restored is None else filter(None, (experiment.extension_message,))
        for line in (*early, *first):
            progress.message(line)
        if position.step:
            progress.message(f"resumed at step {position.step} of {plan.total_steps}")
        resume_step = position.step if restored is not None else -1
        writer = stack.enter_context(
            MetricsWriter(
                workdir,
                resume_step=resume_step,
                primary=primary,
                writers=tuple(dict.fromkeys((*(("tensorboard",) if tensorboard else ()), *writers))),
                config=experiment.config,
            )
        )
        best = BestCheckpoint(plan, position, checkpoints, placement.replicated, message=progress.message)
        profile = StepProfile(plan.profile if primary else None, workdir, message=progress.message)
        stack.callback(profile.close)
        run = _Run(experiment, placement, checkpoints, progress, writer, best, state, position, stop, profile)
        best.replace_damaged(state, run.evaluation.evaluate)
        with nan_check(plan.debug_nans):
            run.train()
        checkpoints.wait()
        if run.preempted:
            progress.message(f"stopped by {stop.by} at step {position.step}, saved; run the same command to resume")
        elif stop.by == "Ctrl-C":  # too late to stop the training, but the work after it takes time, too
            raise KeyboardInterrupt
        variables = evaluation_variables(run.state) if run.preempted else best.variables(run.state)
        return Finished(position, processes.replicate(variables), run.preempted, progress.totals(), stop.by)


class _Run:
    """The loop of one call of `fit`."""

    def __init__(
        self,
        experiment: Experiment,
        placement: Placement,
        checkpoints: checkpoint.Checkpoints,
        progress: report.Progress,
        writer: MetricsWriter,
        best: BestCheckpoint,
        state: TrainState,
        position: Position,
        stop: StopRequest,
        profile: StepProfile,
    ):
        self.experiment, self.placement, self.checkpoints = experiment, placement, checkpoints
        self.progress, self.writer, self.best = progress, writer, best
        self.state, self.position, self.stop, self.profile = state, position, stop, profile
        self.preempted = False
        self.steps: DeviceDataSet | SingleSteps = SingleSteps(placement)
        if experiment.tables is not None:
            self.steps = DeviceDataSet(placement, experiment.tables)
        self.order = EpochOrder(experiment, placement)
        self.evaluation = PeriodicEvaluation(experiment, progress)
        self.finite = FiniteCheck()
        self._clock = time.monotonic()

    def train(self) -> None:
        experiment, plan, position = self.experiment, self.experiment.plan, self.position
        if plan.evaluate_start and position.step == 0 and position.best_step < 0:
            self._log_evaluate_save(DUE_BEFORE_TRAINING)
        if position.step < plan.total_steps:
            self.progress.message("compiling the training step; the time left is shown once the speed is known")
        while not self._ended():  # one epoch
            if self.order.scores_due(position.epoch, position.batch):
                self.finite.check(self.state)
                self.state = self.order.update_scores(self.state)
            rows = self.order.rows(self.state, position.epoch)
            local = rows[:, self.placement.local_columns(rows.shape[1])]
            batches = iter(experiment.batches(local, position.epoch, position.batch))
            # As many steps in one call as possible before the host has something to do.
            while chunk := list(itertools.islice(batches, min(self.steps.max_steps, plan.steps_ahead(position.step)))):
                self.profile.before(position.step)
                self.state, metrics = self.steps(self.state, chunk)
                self.placement.sync_cpu_devices(metrics["loss"])
                pairs = int(np.sum(rows[position.batch : position.batch + len(chunk)] >= 0))
                position.advance(len(chunk), pairs=pairs, steps_per_epoch=len(rows))
                self.profile.after(position.step, metrics)
                self.finite.add(position.step, metrics, self.state)
                self.progress.update(position.step, {"loss": metrics["loss"]}, pairs=pairs)
                self.preempted = self.stop(position.step - len(chunk), position.step)
                if due := due_after(plan, position.step, stopping=self.preempted):
                    self._log_evaluate_save(due, metrics)
                if self._ended():
                    return

    def _ended(self) -> bool:
        return self.preempted or self.position.stopped_early or self.position.step >= self.experiment.plan.total_steps

    def _log_evaluate_save(self, due: Due, metrics: Metrics | None = None) -> None:
        """Best checkpoint before the state: a saved state never names a best checkpoint that is missing."""
        experiment, position = self.experiment, self.position
        self.finite.check(self.state)
        row: dict[str, float] = {}
        if due.log and metrics is not None:
            row |= {f"train/{name}": float(value) for name, value in jax.device_get(metrics).items()}
            row["train/learning_rate"] = experiment.learning_rate(position.step - 1)
            row["train/share_shown"] = self.order.share_shown
        has_val, improved = "val" in experiment.evaluations, False
        if due.evaluate and has_val:
            values = self.evaluation.evaluate(evaluation_variables(self.state), position.step)
            row |= values
            improved = self.best.update(values)
        if row:
            self.writer.write(position.step, row, epoch=position.epochs_started)
        now = time.monotonic()
        position.seconds, self._clock = position.seconds + now - self._clock, now
        if improved or (not has_val and position.step == experiment.plan.total_steps):
            self.best.save(self.state)
        if due.save:
            self.checkpoints.save(position.step, without_frozen(self.state), position.to_json())


def _device_memory(device: jax.Device) -> int | None:
    """Bytes in use on a device; None where its backend does not count them (CPU)."""
    statistics = device.memory_stats()
    return None if statistics is None else statistics.get("bytes_in_use")
