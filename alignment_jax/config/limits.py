"""Checks the ranges of numbers in a configuration, before data is read."""

from __future__ import annotations

import math
from typing import Any

from ml_collections import ConfigDict

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.nested import flatten_config

INF = math.inf
# setting -> (smallest, largest); every other float must be finite
LIMITS: dict[str, tuple[float, float]] = {
    "input.threads": (1, INF),
    "input.cache_mib": (0, INF),
    "input.image_size": (1, INF),
    "input.max_length": (0, INF),
    "audio.noise": (0, INF),
    "model.dim": (1, INF),
    "structure.weight": (0, INF),
    "transport.weight": (0, INF),
    "transport.iterations": (1, INF),
    "transport.batch_size": (1, INF),
    "balance.alpha": (0, INF),
    "balance.prototype_weight": (0, INF),
    "balance.entropy_weight": (0, INF),
    "balance.held_out": (0.01, 0.9),
    "balance.rescale": (1e-3, INF),
    "balance.rank_weight": (0, INF),
    "balance.rate": (0, 0.99),
    "optimizer.learning_rate": (0, INF),
    "optimizer.final_learning_rate": (0, INF),
    "optimizer.drop_factor": (0, 1),
    "optimizer.layer_decay": (1e-3, 1),
    "optimizer.micro_batch": (0, INF),
    "eval.patience": (0, INF),
    "eval.batch_size": (1, INF),
    "eval.bank_size": (0, INF),
    "checkpoint.keep": (1, INF),
    "report.gallery": (0, INF),
}
# Decays: at 1, a moving average would never change.
BELOW_ONE = ("optimizer.b1", "optimizer.b2", "optimizer.momentum", "optimizer.ema", "balance.prototype_decay")


def check_limits(config: ConfigDict) -> None:
    """Checks every number.

    Raises:
      ConfigError: not finite, or out of range; the message names the setting.

    >>> from alignment_jax.config import default
    >>> check_limits(default())
    """
    settings = flatten_config(config.to_dict())
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value}")
    for name, (least, most) in LIMITS.items():
        found: Any = settings.get(name, least)  # some models lack it
        if not least <= found <= most:
            side, bound = ("least", least) if found < least else ("most", most)
            raise ConfigError(f"{name} must be at {side} {bound}, got {found}")
    for name in BELOW_ONE:
        if not 0 <= settings[name] < 1:
            raise ConfigError(f"{name} must be in [0, 1), got {settings[name]}")
    low, start, high = (settings[f"temperature.{name}"] for name in ("min", "init", "max"))
    if not 0 < low <= start <= high:
        raise ConfigError(
            f"temperature.init must be from temperature.min (above 0) to temperature.max, got min={low}, init={start}, "
            f"max={high}"
        )
    if settings["smoothing.schedule"] == "constant" and settings["smoothing.end"] not in (
        0,
        settings["smoothing.start"],
    ):
        raise ConfigError(
            "smoothing.end has no effect with smoothing.schedule=constant; set smoothing.schedule=linear or cosine"
        )
