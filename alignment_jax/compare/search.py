"""Settings drawn from ranges that a configuration names: random search, the same number of trials for every method."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError

_RANGE = re.compile(
    r"\s*(?:(?P<method>[\w+]+)\s*:)?\s*(?P<setting>[\w.]+)\s*=\s*(?P<kind>\w+)\((?P<values>[^()]*)\)\s*"
)
# Sections that do nothing where nothing is trained.
_OF_TRAINING = ("optimizer", "loss", "temperature", "margin", "smoothing", "weighting", "perturb", "sampling")
KINDS = ("uniform", "log", "times", "choice")


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a setting is drawn from.

    method: the method that it belongs to, None for all.
    setting: dotted name in the configuration.
    kind: "uniform" (low, high), "log" (uniform in the logarithm), "times" (the configuration's own value times a factor
      that is log-uniform), "choice" (one of the values).
    """

    method: str | None
    setting: str
    kind: str
    values: tuple[Any, ...]

    def draw(self, unit: float, own: Any) -> Any:
        """The value for a number in [0, 1).

        Args:
          unit: uniform in [0, 1).
          own: the configuration's value, which "times" multiplies and whose type is kept.
        """
        if self.kind == "choice":
            return self.values[int(unit * len(self.values))]
        low, high = self.values
        if self.kind == "uniform":
            value = low + unit * (high - low)
        else:
            value = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
            value = value * own if self.kind == "times" else value
        return round(value) if isinstance(own, int) and not isinstance(own, bool) else float(f"{value:.4g}")


def parse_range(text: str) -> Range:
    """Reads a range as `config.search` holds it.

    Raises:
      ConfigError: it is not of that form; the message shows one that is.

    >>> parse_range("vals: weighting.decay = uniform(0.5, 0.99)")
    Range(method='vals', setting='weighting.decay', kind='uniform', values=(0.5, 0.99))
    """
    match = _RANGE.fullmatch(text)
    if match is None or match["kind"] not in KINDS:
        raise ConfigError(
            f"search: {text!r} is no range; write it as in 'optimizer.learning_rate = log(1e-4, 1e-2)' or "
            f"'vals: weighting.decay = uniform(0.5, 0.99)'; kinds are {', '.join(KINDS)}"
        )
    pieces = [piece.strip() for piece in match["values"].split(",")]
    values: tuple[Any, ...]
    if match["kind"] == "choice":
        values = tuple(_plain(piece) for piece in pieces)
    else:
        try:
            values = tuple(float(piece) for piece in pieces)
        except ValueError:
            values = ()
        if len(values) != 2 or not values[0] < values[1] or (match["kind"] != "uniform" and values[0] <= 0):
            raise ConfigError(f"search: {text!r}: {match['kind']} takes two growing numbers, for log and times above 0")
    return Range(match["method"], match["setting"], match["kind"], values)


def draw_trials(
    ranges: Sequence[str], methods: Sequence[str], trials: int, own: Mapping[str, Any], *, seed: int
) -> list[dict[str, Any]]:
    """The settings of every trial of a method; the first changes nothing, so that a search never starts below it.

    A range of all methods is drawn from random numbers of its own name and trial: every method tries the same values of
    it, and differences between methods are not differences in luck.

    Args:
      ranges: as `config.search` holds them.
      methods: the names whose ranges apply, several for a combination.
      trials: how many, the first included.
      own: the method's configuration, flat; a range of "times" multiplies its values.
      seed: another seed, other values.

    Returns:
      A dict of changed settings for each trial.

    Raises:
      ConfigError: a range cannot be read, or names a setting that does not exist.

    >>> own = {"optimizer.learning_rate": 0.001}
    >>> found = draw_trials(["optimizer.learning_rate = times(0.1, 10)"], ["vals"], 2, own, seed=0)
    >>> found[0], 1e-4 <= found[1]["optimizer.learning_rate"] <= 1e-2
    ({}, True)
    """
    if trials < 1:
        raise ConfigError(f"--search must be at least 1, got {trials}")
    chosen = [one for one in map(parse_range, ranges) if one.method is None or one.method in methods]
    if not chosen:
        raise ConfigError("--search: config.search names no range, so there is nothing to draw from")
    for one in chosen:
        if one.setting not in own:
            raise ConfigError(f"search: there is no setting {one.setting!r}")
    return [{}] + [
        {one.setting: one.draw(_unit(one, trial, seed), own[one.setting]) for one in chosen}
        for trial in range(1, trials)
    ]


def nothing_to_search(duration: str, trials: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all trials of a method are the same: it trains nothing, and they change only how training goes.

    Args:
      duration: the method's `train.duration`.
      trials: as `draw_trials` gives them.

    >>> nothing_to_search("0 steps", [{}, {"optimizer.learning_rate": 0.1}])
    True
    >>> nothing_to_search("0 steps", [{}, {"init.power": 0.5}]), nothing_to_search("5 epochs", [{}, {}])
    (False, False)
    """
    number = re.match(r"\s*([\d.]+)", duration)
    if number is None or float(number[1]) > 0:
        return False
    return all(setting.partition(".")[0] in _OF_TRAINING for trial in trials for setting in trial)


def best_trial(values: Mapping[int, float]) -> int:
    """The trial with the highest value on val, the earliest of equal ones.

    >>> best_trial({0: 401.0, 1: 405.0, 2: 405.0})
    1
    """
    return max(sorted(values), key=lambda trial: values[trial])


def _unit(one: Range, trial: int, seed: int) -> float:
    name = f"{seed}/{one.method or ''}/{one.setting}/{trial}"
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return float(np.random.default_rng(number).random())


def _plain(text: str) -> Any:
    """A number, a truth value or the text itself."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
