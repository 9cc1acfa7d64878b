"""Builds the contrastive objective from the method sections of a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alignment_jax import schedules, weighting
from alignment_jax.assembly.latent_scales import LatentScales
from alignment_jax.assembly.loss_precision import loss_precision
from alignment_jax.assembly.step_counts import StepCounts
from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.types import Array
from alignment_jax.similarity import Implementation
from alignment_jax.train import objective
from alignment_jax.train.perturbation import latent_perturbation
from alignment_jax.weighting.directional import LOSS_SIGNALS


@renamed_attributes({"strength": "anchor_scale"})
@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss as `loss.name` selects it, with everything that the rest of a run depends on.

    pair_loss: (similarity) -> the loss of each pair; (similarity, `loss.duplicates`) where `duplicates`. similarity is
      an `alignment_jax.similarity.Implementation` of `loss.similarity` and `loss.precision`.
    anchor_scale: the section that gives each anchor's scale, "temperature" or "margin"; None for a loss without one.
      Only a loss with a temperature trains the model's temperature and is calibrated at it.
    per_anchor: the scale may change with the step and with the anchor, so the section's `schedule` applies.
    smoothing: it has targets to smooth.
    statistics: it returns the statistics of both directions, which `weighting` reads.
    directions: it returns a loss of each direction, for `weighting.signal=loss`.
    probability: so it does, and exp(-loss) is a probability, for `weighting.signal=probability`.
    bias: it reads the model's learned bias.
    duplicates: how it can treat equal partners in a batch, "mask" and "positive", by the ids beside the outputs.
    """

    pair_loss: Callable[..., objective.PairLoss]
    anchor_scale: Literal["temperature", "margin"] | None
    per_anchor: bool = True
    smoothing: bool = False
    statistics: bool = False
    directions: bool = False
    probability: bool = False
    bias: bool = False
    duplicates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.anchor_scale not in ("temperature", "margin", None):
            raise ValueError(f"Loss.anchor_scale must be 'temperature', 'margin' or None, got {self.anchor_scale!r}")


_BOTH = ("mask", "positive")
LOSSES: dict[str, Loss] = {
    "infonce": Loss(
        objective.infonce_pair_loss,
        "temperature",
        smoothing=True,
        statistics=True,
        directions=True,
        probability=True,
        duplicates=_BOTH,
    ),
    "max_margin": Loss(
        objective.max_margin_pair_loss, "margin", statistics=True, directions=True, duplicates=("mask",)
    ),
    "sigmoid": Loss(objective.sigmoid_pair_loss, "temperature", per_anchor=False, bias=True, duplicates=_BOTH),
}
SMOOTHINGS: dict[str, Callable[[float, float, int], Callable[..., jax.Array]]] = {
    "constant": lambda start, end, steps: schedules.constant(start),
    "linear": schedules.linear,
    "cosine": schedules.cosine,
}
# Signal -> the property of `Loss` that it needs, and in words.
_NEEDED = {
    "probability": ("probability", "the probability of the own partner, exp(-loss), in both directions"),
    "loss": ("directions", "a loss of each direction"),
}
ANCHOR_SCALE_SCHEDULES = ("none", "cosine", "mm_ts")


def build_objective(
    *,
    loss: ConfigDict,
    temperature: ConfigDict,
    margin: ConfigDict,
    smoothing: ConfigDict,
    perturb: ConfigDict,
    weighting: ConfigDict,
    steps: StepCounts,
    cluster_range: tuple[float, float] | None = None,
    latent_scales: LatentScales,
    regularizers: tuple[objective.Regularizer, ...] = (),
) -> objective.Contrastive:
    """The contrastive objective with every method that is turned on.

    Args:
      loss, temperature, margin, smoothing, perturb, weighting: sections of the configuration.
      steps: of the run, for schedules.
      cluster_range: smallest and largest cluster size of the training samples; MM-TS needs it.
      latent_scales: of the training data.
      regularizers: from `regularizers.build_regularizers`.

    Raises:
      ConfigError: a value out of range, or a method that does not apply to this data.
    """
    entry = registered_loss(loss.name)
    sections = {"temperature": temperature, "margin": margin}
    name = entry.anchor_scale
    if name is not None and not entry.per_anchor and sections[name].schedule != "none":
        raise ConfigError(
            f"{name}.schedule={sections[name].schedule} gives each anchor its {name}, but "
            f"loss.name={loss.name} has one for all pairs; "
            f"use {_losses_with(lambda other: other.anchor_scale == name and other.per_anchor)}"
        )
    if loss.duplicates == "positive" and "positive" not in entry.duplicates:
        raise ConfigError(
            f"loss.duplicates=positive makes several partners positives; loss.name={loss.name} takes one, "
            f"use loss.duplicates=mask or {_losses_with(lambda other: 'positive' in other.duplicates)}"
        )
    of_temperature = _anchor_scale(temperature, "temperature", steps, cluster_range, objective.model_temperature)
    if name == "margin" and margin.value < 0:
        raise ConfigError(f"margin.value must be at least 0, got {margin.value}")
    anchor_scale = of_temperature
    if name == "margin":
        fixed = float(margin.value)
        anchor_scale = _anchor_scale(
            margin, "margin", steps, cluster_range, lambda step, stat, outputs: jnp.float32(fixed)
        )
    sigma = perturb.sigma
    return objective.Contrastive(
        pair_loss=configured_pair_loss(loss, temperature),
        anchor_scale=anchor_scale,
        temperature=of_temperature,
        smoothing=_smoothing(smoothing, loss.name, steps.total),
        perturb=_perturbation(perturb, latent_scales),
        perturb_features=latent_scales.towers,
        weighting=_weighting(weighting, loss.name, steps),
        weigh_by_loss=weighting.signal in LOSS_SIGNALS,
        regularizers=regularizers,
        extra_metrics=lambda step: {"noise_sigma": jnp.float32(sigma)},
    )


def registered_loss(name: str) -> Loss:
    """The loss that `loss.name` selects.

    Raises:
      ConfigError: there is none of this name.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss.name is {name!r}{suggest(name, LOSSES)}")
    return LOSSES[name]


def configured_pair_loss(section: ConfigDict, temperature: ConfigDict) -> objective.PairLoss:
    """The loss of each pair with the options of the section `loss`; `loss.precision` depends on `temperature`."""
    entry = registered_loss(section.name)
    precision = loss_precision(section, temperature)
    similarity = dataclasses.replace(Implementation.parse(section.similarity), precision=precision)
    return entry.pair_loss(similarity, *([section.duplicates] if entry.duplicates else []))


def learns_temperature(loss: str, temperature: ConfigDict) -> bool:
    """Whether the loss uses the model's own temperature, and training changes it.

    Args:
      loss: `loss.name`.
      temperature: the section `temperature`.
    """
    used = registered_loss(loss).anchor_scale == "temperature" and temperature.schedule == "none"
    return used and bool(temperature.learned)


def logit_scale_options(loss: str, temperature: ConfigDict) -> dict[str, bool]:
    """Options of `models.LogitScale`: the scalars that the model learns beside its towers.

    Args:
      loss: `loss.name`.
      temperature: the section `temperature`.
    """
    return {"learned_temperature": learns_temperature(loss, temperature), "learned_bias": registered_loss(loss).bias}


def needs_cluster_sizes(temperature: ConfigDict, margin: ConfigDict) -> bool:
    """Whether a schedule reads the cluster size of each sample."""
    return "mm_ts" in (temperature.schedule, margin.schedule)


def _anchor_scale(
    section: ConfigDict,
    name: str,
    steps: StepCounts,
    cluster_range: tuple[float, float] | None,
    fixed: objective.PerAnchor,
) -> objective.PerAnchor:
    if section.schedule == "none":
        return fixed
    period = steps.interval(section.period, f"{name}.period")
    if section.schedule == "cosine":
        cosine = schedules.cosine_temperature(section.min_shift, section.max_shift, period)
        return lambda step, stat, outputs: cosine(step)
    if cluster_range is None:
        raise ConfigError(f"{name}.schedule=mm_ts needs the cluster size of every sample")
    modulated = schedules.mm_ts(
        alpha=section.alpha,
        period=period,
        min_shift=section.min_shift,
        max_shift=section.max_shift,
        min_size=cluster_range[0],
        max_size=cluster_range[1],
    )

    def anchor_scale(step: jax.Array, stat: Array | None, outputs: Mapping[str, Array]) -> Array:
        del outputs
        if stat is None:
            raise ValueError("the batch has no 'stat': MM-TS needs the cluster size of every sample")
        return modulated(step, stat)

    return anchor_scale


def _smoothing(section: ConfigDict, loss: str, total_steps: int) -> Callable[[jax.Array], Array]:
    for name in ("start", "end"):
        if not 0.0 <= section[name] < 1.0:
            raise ConfigError(f"smoothing.{name} must be in [0, 1), got {section[name]}")
    if not registered_loss(loss).smoothing and (section.start or section.end):
        raise ConfigError(
            f"smoothing needs the targets of a softmax: loss.name={loss} has none, "
            f"use {_losses_with(lambda other: other.smoothing)}"
        )
    return SMOOTHINGS[section.schedule](section.start, section.end, total_steps)


def _perturbation(section: ConfigDict, scales: LatentScales) -> objective.Perturb | None:
    for name in ("sigma", "fusemix"):
        if section[name] < 0:
            raise ConfigError(f"perturb.{name} must be at least 0, got {section[name]}")
    if (section.sigma or section.fusemix) and not (scales.latents or scales.towers):
        raise ConfigError("perturb acts on frozen latents; this data set holds raw images or texts: run extract first")
    units: Any = (None, None)
    if section.relative:
        units = (scales.a, scales.b) if scales.latents else ("batch", "batch")
    return latent_perturbation(sigma=section.sigma, scales=units, fusemix=section.fusemix)


def _weighting(section: ConfigDict, loss: str, steps: StepCounts):
    warmup = steps.interval(section.warmup, "weighting.warmup")
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
    needed, what = _NEEDED.get(section.signal, ("statistics", "statistics of the similarities in both directions"))
    if not getattr(registered_loss(loss), needed):
        raise ConfigError(
            f"weighting.signal={section.signal} reads {what}; loss.name={loss} does not give that, "
            f"use {_losses_with(lambda other: getattr(other, needed))}"
        )
    return pair


def _losses_with(has: Callable[[Loss], bool]) -> str:
    """The names of the losses with a property, for messages."""
    return " or ".join(name for name, loss in LOSSES.items() if has(loss)) or "another loss"
