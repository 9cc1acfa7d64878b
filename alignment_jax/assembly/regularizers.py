"""Builds the regularizers that a configuration turns on: each has a section with its `weight`, 0 for off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from alignment_jax import schedules
from alignment_jax.assembly.step_counts import StepCounts
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import Array
from alignment_jax.train.objective import Regularizer
from alignment_jax.train.regularization import structure_regularizer, transport_regularizer

Teacher = Callable[[str, Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Regularized:
    """The run that a regularizer is built for.

    steps: of the run.
    latents: both sides are frozen latents.
    teacher: () -> (side, latents [k, d]) -> unit vectors by a linear teacher, fitted to the training pairs.
    """

    steps: StepCounts
    latents: bool
    teacher: Callable[[], Teacher]


def _structure(section: ConfigDict, run: Regularized) -> Regularizer:
    _check_positive(section, "structure", "temperature")
    warmup = run.steps.interval(section.warmup, "structure.warmup")
    weight = schedules.linear(0.0, section.weight, warmup) if warmup else schedules.constant(section.weight)
    return structure_regularizer(weight, temperature=section.temperature)


def _transport(section: ConfigDict, run: Regularized) -> Regularizer:
    _check_positive(section, "transport", "epsilon", "teacher_epsilon")
    numbers = {name: section[name] for name in ("epsilon", "teacher_epsilon", "iterations")}
    return transport_regularizer(section.weight, teacher=run.teacher(), **numbers)


# Section of the configuration -> (section, run) -> regularizer.
REGULARIZERS: dict[str, Callable[[ConfigDict, Regularized], Regularizer]] = {
    "structure": _structure,
    "transport": _transport,
}


def active_regularizers(config: ConfigDict) -> list[str]:
    """The sections of regularizers whose weight is above 0.

    >>> from alignment_jax.config import default
    >>> active_regularizers(default())
    []
    """
    return [name for name in REGULARIZERS if name in config and config[name].weight]


def build_regularizers(config: ConfigDict, run: Regularized) -> tuple[Regularizer, ...]:
    """The regularizers whose weight is above 0.

    Raises:
      ConfigError: a number out of range, or data without frozen latents.
    """
    names = active_regularizers(config)
    if names and not run.latents:
        raise ConfigError(
            f"{names[0]}.weight reads frozen latents; this data set holds raw images or texts: run extract first"
        )
    return tuple(REGULARIZERS[name](config[name], run) for name in names)


def _check_positive(section: ConfigDict, section_name: str, *names: str) -> None:
    for name in names:
        if section[name] <= 0:
            raise ConfigError(f"{section_name}.{name} must be above 0, got {section[name]}")
