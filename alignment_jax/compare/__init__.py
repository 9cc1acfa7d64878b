"""Comparison of methods over seeds and data conditions, with paired intervals."""

from __future__ import annotations

from alignment_jax.compare.paired_differences import (
    Difference,
    ItemScores,
    compare_paired,
    mean_and_deviation,
    sign_flip,
)
from alignment_jax.core.deprecation import renamed_names

__all__ = ["Difference", "ItemScores", "compare_paired", "mean_and_deviation", "sign_flip"]

__getattr__ = renamed_names(__name__, {"Items": "ItemScores"})
