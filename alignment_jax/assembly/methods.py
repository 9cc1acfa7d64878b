"""From the configuration's method sections to the objective: names become functions, durations become steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alignment_jax import schedules, weighting
from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.types import Array
from alignment_jax.train import objective
from alignment_jax.train.perturbation import latent_perturbation


@renamed_attributes({"strength": "anchor_scale"})
@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss as `loss.name` calls it, with everything that the rest of a run depends on.

    pair_loss: (`loss.similarity`) -> the loss of each pair; (`loss.similarity`, `loss.duplicates`) where `duplicates`.
    anchor_scale: the section whose value scales the loss of an anchor, "temperature" or "margin"; None for a loss that
      uses neither. Only a loss with a temperature trains that of the model and is calibrated at it.
    per_anchor: this value may change with the step and with the anchor, so the section's `schedule` applies.
    smoothing: it has targets to smooth.
    statistics: it gives the statistics of both directions, which `weighting` weighs.
    bias: it reads the model's learned bias.
    duplicates: what it can make of equal partners in a batch, "mask" and "positive", from the ids beside the outputs.
    """

    pair_loss: Callable[..., objective.PairLoss]
    anchor_scale: Literal["temperature", "margin"] | None
    per_anchor: bool = True
    smoothing: bool = False
    statistics: bool = False
    bias: bool = False
    duplicates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.anchor_scale not in ("temperature", "margin", None):
            raise ValueError(f"anchor_scale must be 'temperature', 'margin' or None, got {self.anchor_scale!r}")


_BOTH = ("mask", "positive")
LOSSES: dict[str, Loss] = {
    "infonce": Loss(objective.infonce_pair_loss, "temperature", smoothing=True, statistics=True, duplicates=_BOTH),
    "max_margin": Loss(objective.max_margin_pair_loss, "margin", statistics=True, duplicates=("mask",)),
    "sigmoid": Loss(objective.sigmoid_pair_loss, "temperature", per_anchor=False, bias=True, duplicates=_BOTH),
}
SMOOTHINGS: dict[str, Callable[[float, float, int], Callable[..., jax.Array]]] = {
    "constant": lambda start, end, steps: schedules.constant(start),
    "linear": schedules.linear,
    "cosine": schedules.cosine,
}
STRENGTH_SCHEDULES = ("none", "cosine", "mm_ts")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the methods must know of the data: range of cluster sizes, scale of each side's latents, step counts."""

    steps: Callable[[str, str], int]
    total_steps: int
    sizes: tuple[float, float] | None = None
    scales: tuple[Array | None, Array | None] = (None, None)
    latents: bool = True


def build_objective(config: ConfigDict, facts: Facts) -> objective.Contrastive:
    """The contrastive objective with every method that the configuration turns on.

    Raises:
      ConfigError: a value out of range, or a method that this data cannot serve.
    """
    loss = loss_of(config)
    if loss.anchor_scale is not None and not loss.per_anchor and config[loss.anchor_scale].schedule != "none":
        raise ConfigError(
            f"{loss.anchor_scale}.schedule={config[loss.anchor_scale].schedule} is a {loss.anchor_scale} per anchor; "
            f"loss.name={config.loss.name} has one for all pairs; "
            f"use {_with(lambda other: other.anchor_scale == loss.anchor_scale and other.per_anchor)}"
        )
    if config.loss.duplicates == "positive" and "positive" not in loss.duplicates:
        raise ConfigError(
            f"loss.duplicates=positive makes several partners right; loss.name={config.loss.name} takes one, "
            f"use loss.duplicates=mask or {_with(lambda other: 'positive' in other.duplicates)}"
        )
    temperature = _strength(config.temperature, "temperature", facts, objective.model_temperature)
    margin = config.margin.value
    if loss.anchor_scale == "margin" and margin < 0:
        raise ConfigError(f"margin.value must be at least 0, got {margin}")
    strength = temperature
    if loss.anchor_scale == "margin":
        strength = _strength(config.margin, "margin", facts, lambda step, stat, outputs: jnp.float32(margin))
    return objective.Contrastive(
        pair_loss=loss.pair_loss(config.loss.similarity, *([config.loss.duplicates] if loss.duplicates else [])),
        anchor_scale=strength,
        temperature=temperature,
        smoothing=_smoothing(config, facts),
        perturb=_perturb(config, facts),
        weighting=_weighting(config, facts),
        extra_metrics=lambda step: {"noise_sigma": jnp.float32(config.perturb.sigma)},
    )


def loss_of(config: ConfigDict) -> Loss:
    """The registered loss of a configuration.

    Raises:
      ConfigError: there is none of this name.
    """
    if config.loss.name not in LOSSES:
        raise ConfigError(f"loss.name is {config.loss.name!r}{suggest(config.loss.name, LOSSES)}")
    return LOSSES[config.loss.name]


def learns_temperature(config: ConfigDict) -> bool:
    """Whether the model's own temperature is in use at all, and trained."""
    used = loss_of(config).anchor_scale == "temperature" and config.temperature.schedule == "none"
    return used and bool(config.temperature.learned)


def learned_scalars(config: ConfigDict) -> dict[str, bool]:
    """What the model learns beside its towers, as its own options; see `models.LogitScale`."""
    return {"learned_temperature": learns_temperature(config), "learned_bias": loss_of(config).bias}


def needs_cluster_sizes(config: ConfigDict) -> bool:
    """Whether any schedule asks for the size of a sample's cluster."""
    return "mm_ts" in (config.temperature.schedule, config.margin.schedule)


def _strength(section: ConfigDict, name: str, facts: Facts, fixed: objective.PerAnchor) -> objective.PerAnchor:
    if section.schedule == "none":
        return fixed
    period = facts.steps(section.period, f"{name}.period")
    if section.schedule == "cosine":
        cosine = schedules.cosine_temperature(section.min_shift, section.max_shift, period)
        return lambda step, stat, outputs: cosine(step)
    if facts.sizes is None:
        raise ConfigError(f"{name}.schedule=mm_ts needs the size of every sample's cluster")
    modulated = schedules.mm_ts(
        alpha=section.alpha,
        period=period,
        min_shift=section.min_shift,
        max_shift=section.max_shift,
        min_size=facts.sizes[0],
        max_size=facts.sizes[1],
    )

    def strength(step: jax.Array, stat: Array | None, outputs: Mapping[str, Array]) -> Array:
        del outputs
        if stat is None:
            raise ValueError("the batch has no 'stat': MM-TS needs the size of every sample's cluster")
        return modulated(step, stat)

    return strength


def _smoothing(config: ConfigDict, facts: Facts) -> Callable[[jax.Array], Array]:
    section = config.smoothing
    for name in ("start", "end"):
        if not 0.0 <= section[name] < 1.0:
            raise ConfigError(f"smoothing.{name} must be in [0, 1), got {section[name]}")
    if not loss_of(config).smoothing and (section.start or section.end):
        raise ConfigError(
            f"smoothing needs the targets of a softmax: loss.name={config.loss.name} has none, "
            f"use {_with(lambda other: other.smoothing)}"
        )
    return SMOOTHINGS[section.schedule](section.start, section.end, facts.total_steps)


def _perturb(config: ConfigDict, facts: Facts) -> objective.Perturb | None:
    section = config.perturb
    for name in ("sigma", "fusemix"):
        if section[name] < 0:
            raise ConfigError(f"perturb.{name} must be at least 0, got {section[name]}")
    if (section.sigma or section.fusemix) and not facts.latents:
        raise ConfigError("perturb acts on frozen latents; this data set holds raw images or texts: run extract first")
    scales: Any = facts.scales if section.relative else (None, None)
    return latent_perturbation(sigma=section.sigma, scales=scales, fusemix=section.fusemix)


def _weighting(config: ConfigDict, facts: Facts):
    section = config.weighting
    warmup = facts.steps(section.warmup, "weighting.warmup")
    pair = weighting.directional(
        section.signal,
        decay=section.decay,
        mode=section.mode,
        strength=section.strength,
        floor=section.floor,
        warmup_steps=warmup,
    )
    if section.signal == "fixed":
        return None
    if not loss_of(config).statistics:
        raise ConfigError(
            f"weighting weighs the two directions of a loss; loss.name={config.loss.name} does not give their "
            f"statistics, use {_with(lambda other: other.statistics)}"
        )
    return pair


def _with(has: Callable[[Loss], bool]) -> str:
    """The names of the losses that have a property, for messages."""
    return " or ".join(name for name, loss in LOSSES.items() if has(loss)) or "another loss"
