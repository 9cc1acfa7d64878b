"""Comparing methods: training them over seeds and conditions, and saying honestly what differed."""

from alignment_jax.compare.paired_differences import Difference, Items, compare_paired, mean_and_deviation, sign_flip

__all__ = ["Difference", "Items", "compare_paired", "mean_and_deviation", "sign_flip"]
