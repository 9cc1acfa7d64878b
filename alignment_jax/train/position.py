"""The position of a run: its next batch, its best step so far and its cost. Every checkpoint holds one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass
class Position:
    """Plain JSON values.

    step: steps taken. epoch, batch: of the next step. pairs: pairs trained on. seconds: of training, over all restarts.
    best_step, best_value: of the best evaluation on val; -1 before the first.
    total_steps: of the plan; 0 in checkpoints of earlier versions.
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

    @property
    def epochs_started(self) -> int:
        """The number of the epoch of the last step, from 1."""
        return self.epoch if self.batch == 0 else self.epoch + 1

    def advance(self, steps: int, *, pairs: int, steps_per_epoch: int) -> None:
        """Moves on by steps within one epoch.

        >>> position = Position(step=3, batch=3)
        >>> position.advance(2, pairs=16, steps_per_epoch=5)
        >>> position.step, position.epoch, position.batch
        (5, 1, 0)
        """
        self.step += steps
        self.batch += steps
        self.pairs += pairs
        if self.batch == steps_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: before the first evaluation the best value is None."""
        return {**dataclasses.asdict(self), "best_value": self.best_value if self.best_step >= 0 else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Position:
        """The inverse of `to_json`."""
        return cls(**{**values, "best_value": -math.inf if values["best_value"] is None else values["best_value"]})
