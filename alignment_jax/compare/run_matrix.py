"""What a comparison trains: every method under every condition with every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignment_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, order=True)
class Condition:
    """The training data of a cell: the share of the samples, and the share of those that are mismatched on purpose."""

    fraction: float = 1.0
    mismatched: float = 0.0

    @property
    def words(self) -> str:
        """As in "30 % of the data, 20 % mismatched"; "all data" for the plain one.

        >>> Condition(0.3).words, Condition(1.0, 0.2).words
        ('30 % of the data', 'all data, 20 % mismatched')
        """
        amount = "all data" if self.fraction == 1.0 else f"{100 * self.fraction:.4g} % of the data"
        return amount + (f", {100 * self.mismatched:.4g} % mismatched" if self.mismatched else "")

    def to_json(self) -> dict[str, float]:
        """As records hold it; `condition_of` is the way back."""
        return {"fraction": self.fraction, "mismatched": self.mismatched}


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, and may train together."""

    method: str
    condition: Condition
    seeds: tuple[int, ...]


def conditions(fractions: Sequence[float], mismatched: Sequence[float]) -> list[Condition]:
    """The conditions in the order in which they are trained: the most complete comparison first.

    Mismatched pairs are tried at the largest fraction only.

    Raises:
      ConfigError: a fraction outside (0, 1], or a share of mismatched pairs outside [0, 0.5].

    >>> [condition.words for condition in conditions([0.1, 1.0], [0.0, 0.2])]
    ['all data', 'all data, 20 % mismatched', '10 % of the data']
    """
    for value in fractions:
        if not 0.0 < value <= 1.0:
            raise ConfigError(f"--fractions: {value:g} is not in (0, 1]")
    for value in mismatched:
        if not 0.0 <= value <= 0.5:
            raise ConfigError(f"--mismatched: {value:g} is not in [0, 0.5]")
    if not fractions:
        raise ConfigError("--fractions: give at least one number in (0, 1]")
    largest = max(fractions)
    wrong = [Condition(largest, m) for m in sorted({0.0, *mismatched})]
    return wrong + [Condition(f) for f in sorted(set(fractions) - {largest}, reverse=True)]


def missing(
    methods: Iterable[str], wanted: Iterable[Condition], seeds: Sequence[int], runs: Iterable[Mapping[str, Any]]
) -> list[Group]:
    """What is still to be trained, condition by condition, so that a part of it is already a fair comparison.

    Args:
      runs: the records of what is done.

    >>> done = [{"method": "vals", "fraction": 1.0, "mismatched": 0.0, "seed": 0}]
    >>> missing(["baseline", "vals"], [Condition()], [0, 1], done)[1].seeds
    (1,)
    """
    done = {key_of(run) for run in runs}
    names = list(methods)
    groups = []
    for condition in wanted:
        for method in names:
            left = tuple(seed for seed in seeds if (method, condition, seed) not in done)
            if left:
                groups.append(Group(method, condition, left))
    return groups


def key_of(run: Mapping[str, Any]) -> tuple[str, Condition, int]:
    """Which cell a record belongs to."""
    return run["method"], condition_of(run), run["seed"]


def condition_of(run: Mapping[str, Any]) -> Condition:
    """The condition of a record."""
    return Condition(float(run.get("fraction", 1.0)), float(run.get("mismatched", 0.0)))
