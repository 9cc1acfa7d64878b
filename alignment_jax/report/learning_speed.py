"""How early in a run a head has learned what it learns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def learning_speed(
    history: Sequence[Mapping[str, Any]], key: str, *, chance: float = 0.0, share: float = 0.9
) -> float | None:
    """The part of the steps after which a metric has made `share` of its way from chance to its best value.

    Evaluations are some steps apart, so the number is at most one interval too large.

    Args:
      history: rows of `metrics.jsonl`.
      key: of the metric, "val/accuracy_a" for example; higher is better.
      chance: its value without learning.
      share: of the way.

    Returns:
      In (0, 1], small for a head that learns early; None where the metric never exceeds chance.

    >>> rows = [{"step": 10, "val/accuracy_a": 60.0}, {"step": 20, "val/accuracy_a": 88.0}]
    >>> rows += [{"step": 30, "val/accuracy_a": 90.0}, {"step": 40, "val/accuracy_a": 89.0}]
    >>> learning_speed(rows, "val/accuracy_a", chance=10.0)
    0.5
    """
    points = [
        (int(row["step"]), float(row[key]))
        for row in history
        if isinstance(row.get(key), int | float) and math.isfinite(row[key])
    ]
    best = max((value for _, value in points), default=chance)
    if best <= chance:
        return None
    wanted = chance + share * (best - chance)
    first = min(step for step, value in points if value >= wanted)
    last = max(int(row["step"]) for row in history if "step" in row)
    return first / last if last else None
