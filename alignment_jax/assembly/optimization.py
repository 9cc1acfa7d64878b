"""Builds the learning-rate schedule and the optimizer of a configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from alignment_jax import models
from alignment_jax.assembly.step_counts import StepCounts
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.experiment import Model
from alignment_jax.train.optimizer import learning_rate_schedule, make_optimizer


def check_accumulation(section: ConfigDict, total_steps: int) -> None:
    """Raises ConfigError when the training is too short for a single update."""
    if 0 < total_steps < section.accumulate:
        raise ConfigError(
            f"optimizer.accumulate is {section.accumulate}, but the whole training has {total_steps} steps: no update "
            "would be applied; set a smaller optimizer.accumulate or a longer train.duration"
        )


def check_layer_decay(section: ConfigDict, model: Model, first_batch: Sequence[np.ndarray]) -> None:
    """Raises ConfigError when `optimizer.layer_decay` is set and no part of the model has stacked layers."""
    if section.layer_decay == 1.0:
        return
    params: Any = jax.eval_shape(model.init, jax.random.key(0), *first_batch)[0]
    if not models.tuning.stack_depth(params):
        raise ConfigError(
            f"optimizer.layer_decay is {section.layer_decay}, but no encoder of this model has stacked layers, as vit "
            "and transformer do; set optimizer.layer_decay=1.0"
        )


def build_optimizer(
    section: ConfigDict, steps: StepCounts
) -> tuple[optax.GradientTransformation, Callable[[int], float]]:
    """The optimizer, and step -> learning rate for the log.

    Args:
      section: `optimizer` of the configuration.
      steps: of the run. The schedule counts updates, one for every `accumulate` steps.
    """
    per_update = max(1, section.accumulate)
    drops = steps.multiples(section.drop_every, "optimizer.drop_every") if section.schedule == "staircase" else []
    schedule = learning_rate_schedule(
        section.schedule,
        peak=section.learning_rate,
        final=section.final_learning_rate,
        warmup_steps=steps.interval(section.warmup, "optimizer.warmup") // per_update,
        total_steps=max(1, steps.total // per_update),
        drops=[step // per_update for step in drops],
        drop_factor=section.drop_factor,
    )
    decay = section.layer_decay
    optimizer = make_optimizer(
        section.name,
        schedule,
        mask=models.decay_mask,
        rates=None if decay == 1.0 else functools.partial(models.tuning.layer_rates, decay=decay),
        **{name: section[name] for name in ("weight_decay", "b1", "b2", "momentum", "clip", "accumulate")},
    )
    return optimizer, lambda step: float(schedule(step // per_update))
