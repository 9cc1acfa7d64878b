"""The runs of a comparison: every method under every data condition with every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignment_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, order=True)
class DataCondition:
    """The training data of a run: the fraction of the samples, and the fraction of those that are mismatched."""

    fraction: float = 1.0
    mismatched: float = 0.0

    @property
    def label(self) -> str:
        """As in "30 % of the data, 20 % mismatched"; "all data" for the default.

        >>> DataCondition(0.3).label, DataCondition(1.0, 0.2).label
        ('30 % of the data', 'all data, 20 % mismatched')
        """
        amount = "all data" if self.fraction == 1.0 else f"{100 * self.fraction:.4g} % of the data"
        return amount + (f", {100 * self.mismatched:.4g} % mismatched" if self.mismatched else "")

    def to_json(self) -> dict[str, float]:
        """The fields of a record; `condition_of` is the inverse."""
        return {"fraction": self.fraction, "mismatched": self.mismatched}


@dataclasses.dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in the seed, and may train together."""

    method: str
    condition: DataCondition
    seeds: tuple[int, ...]


def data_conditions(fractions: Sequence[float], mismatched: Sequence[float]) -> list[DataCondition]:
    """The data conditions in the order of training, the largest fraction first.

    Mismatched pairs are used at the largest fraction only.

    Raises:
      ConfigError: a fraction outside (0, 1], or a share of mismatched pairs outside [0, 0.5].

    >>> [condition.label for condition in data_conditions([0.1, 1.0], [0.0, 0.2])]
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
    wrong = [DataCondition(largest, m) for m in sorted({0.0, *mismatched})]
    return wrong + [DataCondition(f) for f in sorted(set(fractions) - {largest}, reverse=True)]


def missing_runs(
    methods: Iterable[str], wanted: Iterable[DataCondition], seeds: Sequence[int], runs: Iterable[Mapping[str, Any]]
) -> list[SeedGroup]:
    """The runs that are left to train, condition by condition, so that a finished condition is a fair comparison.

    Args:
      runs: records of the finished runs.

    >>> done = [{"method": "vals", "fraction": 1.0, "mismatched": 0.0, "seed": 0}]
    >>> missing_runs(["baseline", "vals"], [DataCondition()], [0, 1], done)[1].seeds
    (1,)
    """
    done = {run_key(run) for run in runs}
    names = list(methods)
    groups = []
    for condition in wanted:
        for method in names:
            left = tuple(seed for seed in seeds if (method, condition, seed) not in done)
            if left:
                groups.append(SeedGroup(method, condition, left))
    return groups


def run_key(run: Mapping[str, Any]) -> tuple[str, DataCondition, int]:
    """Method, data condition and seed of a record."""
    return run["method"], condition_of(run), run["seed"]


def condition_of(run: Mapping[str, Any]) -> DataCondition:
    """The data condition of a record."""
    return DataCondition(float(run.get("fraction", 1.0)), float(run.get("mismatched", 0.0)))
