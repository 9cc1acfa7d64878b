"""Random search over the ranges in `config.search`, with the same number of trials for every method."""

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
# Sections without effect where nothing is trained.
_OF_TRAINING = (
    "optimizer",
    "loss",
    "temperature",
    "margin",
    "smoothing",
    "weighting",
    "perturb",
    "structure",
    "transport",
    "sampling",
    "balance",
)
RANGE_KINDS = ("uniform", "log", "times", "choice")


@dataclasses.dataclass(frozen=True)
class SearchRange:
    """The values of one setting in a search.

    method: the only method it applies to; None for all.
    setting: dotted name in the configuration.
    kind: "uniform" (low, high), "log" (log-uniform), "times" (the configuration's own value times a log-uniform
      factor), "choice" (one of the values).
    """

    method: str | None
    setting: str
    kind: str
    values: tuple[Any, ...]

    def draw(self, unit: float, own: Any) -> Any:
        """Maps a number in [0, 1) to a value.

        Args:
          unit: uniform in [0, 1).
          own: the configuration's value; "times" multiplies it, and its type is kept.
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


def parse_range(text: str) -> SearchRange:
    """Parses a range of `config.search`.

    Raises:
      ConfigError: it has another form.

    >>> parse_range("vals: weighting.decay = uniform(0.5, 0.99)")
    SearchRange(method='vals', setting='weighting.decay', kind='uniform', values=(0.5, 0.99))
    """
    match = _RANGE.fullmatch(text)
    if match is None or match["kind"] not in RANGE_KINDS:
        raise ConfigError(
            f"search: {text!r} is not a range; write it as in 'optimizer.learning_rate = log(1e-4, 1e-2)' or "
            f"'vals: weighting.decay = uniform(0.5, 0.99)'; kinds are {', '.join(RANGE_KINDS)}"
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
            raise ConfigError(f"search: {text!r}: {match['kind']} takes two increasing numbers (log, times: above 0)")
    return SearchRange(match["method"], match["setting"], match["kind"], values)


def draw_trials(
    ranges: Sequence[str], methods: Sequence[str], trials: int, own: Mapping[str, Any], *, seed: int
) -> list[dict[str, Any]]:
    """The settings of every trial of a method; the first trial changes nothing.

    The random numbers of a range depend on its name and the trial, not on the method: all methods try the same values
    of a shared range.

    Args:
      ranges: of `config.search`.
      methods: the names whose ranges apply, several for a combination.
      trials: number of trials, with the first one.
      own: the method's configuration, flat.
      seed: of the random numbers.

    Returns:
      A dict of changed settings for each trial.

    Raises:
      ConfigError: a range cannot be parsed, or names a setting that does not exist.

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
    """Whether all trials of a method are equal: it trains nothing, and they change only settings of training.

    Args:
      duration: the method's `train.duration`.
      trials: from `draw_trials`.

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
    """The trial with the highest value on val, the first of equal ones.

    >>> best_trial({0: 401.0, 1: 405.0, 2: 405.0})
    1
    """
    return max(sorted(values), key=lambda trial: values[trial])


def _unit(one: SearchRange, trial: int, seed: int) -> float:
    name = f"{seed}/{one.method or ''}/{one.setting}/{trial}"
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return float(np.random.default_rng(number).random())


def _plain(text: str) -> Any:
    """A number, a bool or the text itself."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
