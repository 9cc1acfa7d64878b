"""Which actions are due after a step: log line, evaluation, checkpoint."""

from __future__ import annotations

import dataclasses

from alignment_jax.train.experiment import Plan


@dataclasses.dataclass(frozen=True)
class Due:
    """The actions that are due; false where none is."""

    log: bool = False
    evaluate: bool = False
    save: bool = False

    def __bool__(self) -> bool:
        return self.log or self.evaluate or self.save


# Nothing to log before the first step, but an evaluation: its parameters may be the best ones.
DUE_BEFORE_TRAINING = Due(evaluate=True, save=True)


def due_after(plan: Plan, step: int, *, stopping: bool = False) -> Due:
    """The actions that are due after `step` steps; every evaluated state is saved, and so is a run that stops.

    >>> plan = Plan(total_steps=9, log_every=1, evaluate_every=3, save_every=2)
    >>> due_after(plan, 1), bool(due_after(plan, 3))
    (Due(log=True, evaluate=False, save=False), True)
    """
    evaluate = plan.due(step, plan.evaluate_every)
    save = plan.due(step, plan.save_every) or evaluate or stopping
    return Due(log=plan.due(step, plan.log_every), evaluate=evaluate, save=save)
