"""Durations with units: "30 epochs", "1000 steps", "50000 examples", "10 percent"."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

from alignment_jax.core.errors import ConfigError

_UNITS = {
    "step": "steps",
    "steps": "steps",
    "epoch": "epochs",
    "epochs": "epochs",
    "example": "examples",
    "examples": "examples",
    "percent": "percent",
    "%": "percent",
}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][0-9]+)?)\s*([a-zA-Z%]+)\s*")


@dataclasses.dataclass(frozen=True)
class Duration:
    """A length of training. `unit` is one of steps, epochs, examples, percent (of the whole training)."""

    amount: float
    unit: str

    def steps(
        self,
        *,
        steps_per_epoch: int,
        batch_size: int,
        total_steps: int | None = None,
        of_epochs: Callable[[float], float] | None = None,
    ) -> int:
        """The duration in whole steps, rounded to the nearest; a positive duration is at least one step.

        Args:
          steps_per_epoch: steps that one full epoch takes.
          batch_size: examples in one step.
          total_steps: steps of the whole training; only `percent` needs it.
          of_epochs: (epochs) -> steps of the first epochs, where their lengths differ; for a duration counted from the
            start of training. None takes `steps_per_epoch` for each.

        Raises:
          ConfigError: a percentage without `total_steps`.

        >>> parse_duration("2 epochs").steps(steps_per_epoch=10, batch_size=32)
        20
        >>> parse_duration("10 percent").steps(steps_per_epoch=10, batch_size=32, total_steps=200)
        20
        """
        if self.unit == "percent" and total_steps is None:
            raise ConfigError("a duration in percent needs the length of the training; use steps, epochs or examples")
        scale = {
            "steps": 1.0,
            "epochs": float(steps_per_epoch),
            "examples": 1.0 / batch_size,
            "percent": (total_steps or 0) / 100.0,
        }[self.unit]
        steps = self.amount * scale
        if self.unit == "epochs" and of_epochs is not None:
            steps = of_epochs(self.amount)
        return max(1, math.floor(steps + 0.5)) if steps > 0 else 0


def parse_duration(text: str, *, name: str = "duration") -> Duration:
    """Reads a duration such as "30 epochs".

    Args:
      text: a number and a unit: steps, epochs, examples or percent.
      name: of the setting, for the message.

    Raises:
      ConfigError: another form.

    >>> parse_duration("1.5 epochs")
    Duration(amount=1.5, unit='epochs')
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None or match.group(2).lower() not in _UNITS:
        raise ConfigError(
            f"{name} is {text!r}; expected a number and a unit (steps, epochs, examples, percent), as in '30 epochs'"
        )
    return Duration(float(match.group(1)), _UNITS[match.group(2).lower()])
