"""How far a comparison is and when it will end: a line for every finished run."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Iterable, Sequence

from alignment_jax.compare.run_matrix import Condition, Group
from alignment_jax.report import format_seconds

# A run on a part of the data is shorter, but not in proportion: evaluation and start stay.
_FIXED = 0.25


class Remaining:
    """Counts finished runs and estimates the time of those that are left.

    A run is expected to take as long as the others under its condition did; before there is one, as long as the others
    with a guess at what the amount of data changes.

    Args:
      groups: everything that is left to train.
      log: a file that gets every line with the time; None for none.
      quiet: show nothing.

    >>> left = Remaining([Group("vals", Condition(), (0, 1))], quiet=True)
    >>> left.done("vals", Condition(), 0, 30.0, "rsum 401.0")
    'run 1/2 (50 %): vals, all data, seed 0: rsum 401.0; 30.0 s left'
    """

    def __init__(self, groups: Iterable[Group], log: pathlib.Path | None = None, *, quiet: bool = False):
        self._left = [(group.condition, group.method, seed) for group in groups for seed in group.seeds]
        self.total = len(self._left)
        self._seconds: dict[Condition, list[float]] = {}
        self._log, self._quiet = log, quiet

    def done(self, method: str, condition: Condition, seed: int, seconds: float, result: str) -> str:
        """Notes a finished run and shows its line.

        Args:
          method, condition, seed: which run.
          seconds: that it took, its share where seeds train together.
          result: the number that a person wants to see.
        """
        self._left.remove((condition, method, seed))
        self._seconds.setdefault(condition, []).append(seconds)
        number = self.total - len(self._left)
        what = f"run {number}/{self.total} ({100 * number // self.total} %): {method}, {condition.words}, seed {seed}"
        left = f"{format_seconds(self.seconds_left())} left" if self._left else "all done"
        return self.message(f"{what}: {result}; {left}")

    def seconds_left(self) -> float | None:
        """Seconds until everything is trained; None before the first run is done."""
        if not self._seconds:
            return None
        everything: Sequence[float] = [
            second / _size(condition) for condition, found in self._seconds.items() for second in found
        ]
        unit = sum(everything) / len(everything)

        def expected(condition: Condition) -> float:
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


def _size(condition: Condition) -> float:
    return _FIXED + (1 - _FIXED) * condition.fraction
