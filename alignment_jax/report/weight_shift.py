"""How far the weights of the two directions moved from 1 in a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def weight_shift(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Largest and mean |w - 1| over the logged steps, equal for both directions, whose weights sum to 2.

    Args:
      history: rows of `metrics.jsonl`.

    Returns:
      {"largest", "mean"}; empty without weights, and where they are always 1 (fixed).

    >>> weight_shift([{"step": 1, "train/weight_ab": 1.0}, {"step": 2, "train/weight_ab": 0.5}])
    {'largest': 0.5, 'mean': 0.25}
    >>> weight_shift([{"step": 1, "train/weight_ab": 1.0}])
    {}
    """
    found = [row["train/weight_ab"] for row in history if isinstance(row.get("train/weight_ab"), int | float)]
    moved = [abs(weight - 1.0) for weight in found if math.isfinite(weight)]
    if not any(moved):
        return {}
    return {"largest": max(moved), "mean": sum(moved) / len(moved)}
