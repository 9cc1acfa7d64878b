"""Progress of a comparison: a line for every finished run, with the time left."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Iterable, Sequence

from alignment_jax.compare.run_matrix import DataCondition, SeedGroup
from alignment_jax.report import format_seconds

# A run on a part of the data is shorter, but not in proportion: evaluation and start stay.
_FIXED = 0.25


class ComparisonProgress:
    """Counts finished runs and estimates the time left.

    The estimate for a run is the mean time of the finished runs under its data condition. Without one, it is the mean
    over the other conditions, scaled by the amount of data.

    Args:
      groups: the runs to train.
      log: a file that receives every line with its time; None for none.
      quiet: show nothing.

    >>> progress = ComparisonProgress([SeedGroup("vals", DataCondition(), (0, 1))], quiet=True)
    >>> progress.finish_run("vals", DataCondition(), 0, 30.0, "rsum 401.0")
    'run 1/2 (50 %): vals, all data, seed 0: rsum 401.0; 30.0 s left'
    """

    def __init__(self, groups: Iterable[SeedGroup], log: pathlib.Path | None = None, *, quiet: bool = False):
        self._left = [(group.condition, group.method, seed) for group in groups for seed in group.seeds]
        self.total = len(self._left)
        self._seconds: dict[DataCondition, list[float]] = {}
        self._log, self._quiet = log, quiet

    def finish_run(self, method: str, condition: DataCondition, seed: int, seconds: float, result: str) -> str:
        """Counts a finished run, shows its line and returns it.

        Args:
          method, condition, seed: of the run.
          seconds: its duration; its share where seeds train together.
          result: its metric, as text.
        """
        self._left.remove((condition, method, seed))
        self._seconds.setdefault(condition, []).append(seconds)
        number = self.total - len(self._left)
        run = f"run {number}/{self.total} ({100 * number // self.total} %): {method}, {condition.label}, seed {seed}"
        left = f"{format_seconds(self.seconds_left())} left" if self._left else "all done"
        return self.message(f"{run}: {result}; {left}")

    def seconds_left(self) -> float | None:
        """Seconds until all runs are trained; None before the first run is finished."""
        if not self._seconds:
            return None
        everything: Sequence[float] = [
            second / _size(condition) for condition, found in self._seconds.items() for second in found
        ]
        unit = sum(everything) / len(everything)

        def expected(condition: DataCondition) -> float:
            found = self._seconds.get(condition)
            return sum(found) / len(found) if found else unit * _size(condition)

        return sum(expected(condition) for condition, _, _ in self._left)

    def message(self, line: str) -> str:
        """Shows a line and writes it to the log."""
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)
        if self._log is not None:
            with open(self._log, "a", encoding="utf-8", errors="replace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')}  {line}\n")
        return line


def _size(condition: DataCondition) -> float:
    return _FIXED + (1 - _FIXED) * condition.fraction
