"""Checks every setting that selects something by name, before data is read."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import evals, models
from alignment_jax.assembly.balance import BALANCE, NONE, check_balance
from alignment_jax.assembly.cca_start import SIMILARITIES, STARTS, check_init
from alignment_jax.assembly.classifier import CLASS_WEIGHTS, is_classifier, prediction_heads
from alignment_jax.assembly.cluster_sizes import SOURCES
from alignment_jax.assembly.cross_validated_settings import SELECTIONS, TRAINING
from alignment_jax.assembly.device_data import CHOICES
from alignment_jax.assembly.hubness import check_hubness
from alignment_jax.assembly.inputs import EVALUATION_VIEWS
from alignment_jax.assembly.loss_precision import PRECISIONS
from alignment_jax.assembly.methods import ANCHOR_SCALE_SCHEDULES, LOSSES, SMOOTHINGS
from alignment_jax.assembly.modality_checks import with_vocabulary
from alignment_jax.assembly.sampling import sampling_criteria
from alignment_jax.assembly.tasks import task_of
from alignment_jax.assembly.warm_start import source_run
from alignment_jax.config.durations import parse_duration
from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.nested import flatten_config
from alignment_jax.data.bad_samples import ON_BAD_SAMPLE
from alignment_jax.data.pixel_range import parse_pixel_range
from alignment_jax.losses.item_ids import DUPLICATES
from alignment_jax.models.encoders import ENCODERS
from alignment_jax.models.registry import ENCODER_OPTIONS, MODELS
from alignment_jax.models.two_tower import PROJECTIONS
from alignment_jax.sampling.orders import ORDERS
from alignment_jax.sampling.sampler import SCORES
from alignment_jax.similarity import Implementation
from alignment_jax.train.diagnostics import parse_steps
from alignment_jax.train.optimizer import OPTIMIZERS, SCHEDULES
from alignment_jax.train.parameter_sharding import SHARDED
from alignment_jax.weighting.directional import MODES, SIGNALS

DURATIONS = (
    "train.duration",
    "eval.interval",
    "checkpoint.interval",
    "log.interval",
    "optimizer.warmup",
    "optimizer.drop_every",
    "temperature.period",
    "margin.period",
    "weighting.warmup",
    "structure.warmup",
    "balance.entropy",
    "balance.interval",
    "balance.pretraining",
)
INTERPOLATE = ("none", "val")
# Their values depend on the task of the model.
TASK_SETTINGS = ("balance.name", "eval.metric", "sampling.similarity", "sampling.difficulty")


def allowed_values(config: ConfigDict) -> dict[str, tuple[str, ...]]:
    """Setting -> its allowed values, for every setting that selects something by name.

    Args:
      config: the whole configuration. The task of its model decides the criteria and the metrics.

    >>> from alignment_jax.config import default
    >>> allowed_values(default())["optimizer.name"]
    ('adamw', 'sgd', 'lars')
    """
    tables: dict[str, Iterable[str]] = {
        "model.name": MODELS,
        **{f"model.{side}.name": ENCODERS for side in ENCODER_OPTIONS if config.model.get(side) is not None},
        **({"model.projection": PROJECTIONS} if "projection" in config.model else {}),
        "init.name": (*STARTS, "run:DIR") if source_run(str(config.init.name)) is None else (config.init.name,),
        "init.similarity": SIMILARITIES,
        "init.selection": SELECTIONS,
        "init.training": TRAINING,
        "input.resident": CHOICES,
        "input.on_bad_sample": ON_BAD_SAMPLE,
        "loss.name": LOSSES,
        "loss.duplicates": DUPLICATES,
        "loss.precision": PRECISIONS,
        "temperature.schedule": ANCHOR_SCALE_SCHEDULES,
        "margin.schedule": ANCHOR_SCALE_SCHEDULES,
        "smoothing.schedule": SMOOTHINGS,
        "clusters.source": SOURCES,
        "weighting.signal": SIGNALS,
        "weighting.mode": MODES,
        "classification.class_weights": CLASS_WEIGHTS,
        "balance.name": BALANCE if is_classifier(config.model) else (NONE,),
        "sampling.name": ORDERS,
        "sampling.scores": SCORES,
        **{f"sampling.{criterion}": choices for criterion, choices in sampling_criteria(config.model).items()},
        "optimizer.name": OPTIMIZERS,
        "optimizer.schedule": SCHEDULES,
        "train.interpolate": INTERPOLATE,
        "train.shard": SHARDED,
        "eval.views": EVALUATION_VIEWS,
        "eval.metric": [f"val/{name}" for name in task_of(config.model).metrics(config.model)],
    }
    return {setting: tuple(names) for setting, names in tables.items()}


def check_settings(config: ConfigDict) -> None:
    """Checks names, durations and the options of the model.

    Raises:
      ConfigError: an unknown name, a duration without a unit, or an option that the model does not have. The message
        names the setting, the nearest allowed value and all of them.

    >>> from alignment_jax.config import default
    >>> config = default()
    >>> check_settings(config)
    >>> config.optimizer.name = "adam"
    >>> check_settings(config)
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.ConfigError: optimizer.name is 'adam', did you mean 'adamw'? known: adamw, sgd, lars
    """
    check_balance(config)
    settings = flatten_config(config.to_dict())
    for setting, known in allowed_values(config).items():
        # An encoder without options may be written as its name.
        value = settings.get(setting, settings.get(setting.removesuffix(".name")))
        if value not in known:
            task = (
                f" (for {'classification' if is_classifier(config.model) else 'alignment'})"
                if setting in TASK_SETTINGS
                else ""
            )
            raise ConfigError(f"{setting} is {value!r}{_hint(setting, str(value), known)}{task}")
    if is_classifier(config.model):
        prediction_heads(config.model, config.classification.predict)
    Implementation.parse(config.loss.similarity)
    check_init(config.init)
    check_hubness(config)
    parse_pixel_range(config.input.pixel_range)
    parse_steps(config.train.profile)
    for setting in DURATIONS:
        parse_duration(settings[setting], name=setting)
    _check_model(config)


def _hint(setting: str, value: str, known: tuple[str, ...]) -> str:
    zero_shot = {f"val/{name}" for name in evals.chance_zero_shot(1 << 20)}
    if setting == "eval.metric" and value in zero_shot:
        return f", a metric of evaluate --zero_shot, after training; known: {', '.join(known)}"
    return suggest(value, known)


def _check_model(config: ConfigDict) -> None:
    """Raises ConfigError for unknown names among the options of the model."""
    # The size of the vocabulary does not matter here.
    tokenizer: Any = types.SimpleNamespace(vocab_size=max(1, config.input.vocab_size))
    options = with_vocabulary(config.model.to_dict(), tokenizer, max(1, config.input.max_length))
    name = options.pop("name")
    for side in ENCODER_OPTIONS:
        if isinstance(encoder := options.get(side), dict):
            # Options of another encoder are reported later, after check_modalities.
            own = {field.name for field in dataclasses.fields(ENCODERS[encoder["name"]][0])}
            options[side] = {key: value for key, value in encoder.items() if key in own | {"name"}}
    try:
        models.build_model(name, **(options | ({"classes": 2} if is_classifier(config.model) else {})))
    except ConfigError as error:
        raise ConfigError(f"model: {error}") from error
