"""The precision of the loss's products that `loss.precision` asks for."""

from __future__ import annotations

from typing import get_args

import jax
from ml_collections import ConfigDict

from alignment_jax.similarity.products import PrecisionName

AUTO = "auto"
PRECISIONS = (AUTO, *get_args(PrecisionName))
# Down to this temperature gradients with bfloat16_3x are off by less than 1e-3: benchmarks/results/precision.md.
LOWEST_TEMPERATURE = 0.001


def loss_precision(precision: str, temperature: ConfigDict) -> PrecisionName:
    """`loss.precision` without "auto".

    "auto" is the fastest whose gradients are off by less than 1e-3, relative, at the temperatures of the run: on
    accelerators bfloat16_3x; on CPUs, and at lower temperatures than were measured, float32.

    Args:
      precision: one of `PRECISIONS`.
      temperature: the section `temperature`.
    """
    if precision != AUTO:
        return precision  # type: ignore[return-value]
    exact = jax.default_backend() == "cpu" or lowest_temperature(temperature) < LOWEST_TEMPERATURE
    return "float32" if exact else "bfloat16_3x"


def lowest_temperature(section: ConfigDict) -> float:
    """The lowest temperature that a run can reach."""
    if section.schedule == "none":
        return float(section.min if section.learned else section.init)
    amplitude = abs(section.alpha) / 2 if section.schedule == "mm_ts" else 0.0
    return float(min(section.min_shift, section.max_shift) - amplitude)


def precision_notes(precision: str, temperature: ConfigDict) -> tuple[str, ...]:
    """A line for the log where products are not float32, or were to be chosen on an accelerator."""
    found = loss_precision(precision, temperature)
    if precision == AUTO and jax.default_backend() != "cpu":
        why = "gradients are off by less than 1e-3" if found != "float32" else "the temperature may be very low"
        return (f"loss.precision: {found} ({why}); float32 is exact",)
    if found != "float32" and jax.default_backend() == "cpu":
        return (f"loss.precision={found} is slower than float32 on a CPU",)
    return ()
