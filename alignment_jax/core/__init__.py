"""Shared by all subpackages: the batch contract, errors, masked reductions, argument checks, moving averages."""

from alignment_jax.core.ema import EmaState, ema
from alignment_jax.core.errors import AlignmentError, ConfigError, DataError, MissingPackageError, RunError, UserError
from alignment_jax.core.masked_reductions import masked_count, masked_mean, masked_sum, psum_if
from alignment_jax.core.normalize import l2_normalize
from alignment_jax.core.types import Array, Batch, PyTree

__all__ = [
    "AlignmentError",
    "Array",
    "Batch",
    "ConfigError",
    "DataError",
    "EmaState",
    "MissingPackageError",
    "PyTree",
    "RunError",
    "UserError",
    "ema",
    "l2_normalize",
    "masked_count",
    "masked_mean",
    "masked_sum",
    "psum_if",
]
