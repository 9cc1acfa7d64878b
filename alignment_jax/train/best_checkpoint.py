"""The best step on val: its selection, early stopping and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from alignment_jax.core.errors import RunError
from alignment_jax.core.types import PyTree
from alignment_jax.train import checkpoint
from alignment_jax.train.experiment import Plan
from alignment_jax.train.position import Position
from alignment_jax.train.state import TrainState, evaluation_variables, with_frozen, without_frozen


class BestCheckpoint:
    """Keeps the variables of the best step in `checkpoints/best` and its value in the position.

    Args:
      plan: names the metric and the patience.
      position: updated in place.
      checkpoints: of the workdir.
      replicated: sharding of restored arrays.
      message: called with one line when training stops early or the checkpoint is damaged.
    """

    def __init__(
        self,
        plan: Plan,
        position: Position,
        checkpoints: checkpoint.Checkpoints,
        replicated: jax.sharding.Sharding,
        *,
        message: Callable[[str], None],
    ):
        self._plan, self._position, self._checkpoints = plan, position, checkpoints
        self._replicated, self._message = replicated, message

    def update(self, values: dict[str, float]) -> bool:
        """Whether this evaluation is the best so far; counts those in a row that are not, for early stopping.

        Raises:
          RunError: the evaluation does not give `eval.metric`.
        """
        plan, position = self._plan, self._position
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
            self._message(
                f"stopped early at step {position.step}: {plan.metric} has not improved for {plan.patience} evaluations"
            )
        return False

    def save(self, state: TrainState) -> None:
        """Saves the variables of this step as the best."""
        self._checkpoints.save(
            self._position.step,
            without_frozen(evaluation_variables(state)),
            self._position.to_json(),
            kind=checkpoint.BEST,
        )

    def replace_damaged(self, state: TrainState, evaluate: Callable[[PyTree, int], dict[str, float]]) -> None:
        """On resuming: a damaged checkpoint is set aside and the resumed step becomes the best."""
        position = self._position
        if position.best_step < 0:
            return
        problem, _ = self._read(state)
        if problem:
            self._message(
                f"checkpoint best/{position.best_step} is damaged ({problem}); the model of step "
                f"{position.step} replaces it"
            )
            self._checkpoints.set_aside(position.best_step, kind=checkpoint.BEST)
            position.best_step, position.best_value = -1, -math.inf
            self.update(evaluate(evaluation_variables(state), position.step))
            self.save(state)

    def variables(self, state: TrainState) -> PyTree:
        """The saved variables of the best step; those of `state` where no step was evaluated.

        Raises:
          RunError: the checkpoint is damaged.
        """
        if self._position.best_step < 0:
            return evaluation_variables(state)
        problem, restored = self._read(state)
        if restored is None:
            raise RunError(f"checkpoint best/{self._position.best_step} is damaged ({problem}); run the command again")
        return with_frozen(restored.state, evaluation_variables(state))

    def _read(self, state: TrainState) -> tuple[str, checkpoint.Restored | None]:
        target = checkpoint.abstract(without_frozen(evaluation_variables(state)), self._replicated)
        return self._checkpoints.read(self._position.best_step, target, kind=checkpoint.BEST)
