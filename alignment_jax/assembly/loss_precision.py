"""The precision of the loss's products that `loss.precision` asks for."""

from __future__ import annotations

from typing import get_args

import jax
from ml_collections import ConfigDict

from alignment_jax.similarity import Implementation
from alignment_jax.similarity.products import PrecisionName

AUTO = "auto"
PRECISIONS = (AUTO, *get_args(PrecisionName))
# Down to this temperature gradients with bfloat16_3x are off by less than 1e-3: benchmarks/results/precision.md.
LOWEST_TEMPERATURE = 0.005


def loss_precision(loss: ConfigDict, temperature: ConfigDict) -> PrecisionName:
    """`loss.precision` without "auto".

    "auto" is the fastest whose gradients are off by less than 1e-3, relative, at the temperatures of the run: on
    accelerators bfloat16_3x; float32 on CPUs, at lower temperatures than were measured, and in the Pallas kernel, which
    has no bfloat16_3x.

    Args:
      loss, temperature: sections of the configuration.
    """
    if loss.precision != AUTO:
        return loss.precision
    exact = jax.default_backend() == "cpu" or Implementation.parse(loss.similarity).name == "pallas"
    return "float32" if exact or lowest_temperature(temperature) < LOWEST_TEMPERATURE else "bfloat16_3x"


def lowest_temperature(section: ConfigDict) -> float:
    """The lowest temperature of a schedule; of one that is fixed or learned, its start."""
    if section.schedule == "none":
        return float(section.init)
    amplitude = abs(section.alpha) / 2 if section.schedule == "mm_ts" else 0.0
    return float(min(section.min_shift, section.max_shift) - amplitude)


def precision_notes(loss: ConfigDict, temperature: ConfigDict) -> tuple[str, ...]:
    """A line for the log where an accelerator's products are chosen, or a CPU has no such products."""
    found, on_cpu = loss_precision(loss, temperature), jax.default_backend() == "cpu"
    if loss.precision == AUTO and not on_cpu:
        reason = "gradients are off by less than 1e-3 at temperatures from 0.005"
        if found == "float32":
            pallas = Implementation.parse(loss.similarity).name == "pallas"
            reason = (
                "the Pallas kernel has no bfloat16_3x" if pallas else "errors were not measured at temperatures so low"
            )
        return (f"loss.precision: {found} ({reason})",)
    if found != "float32" and on_cpu:
        return (f"loss.precision={found} is slower than float32 on a CPU",)
    return ()
