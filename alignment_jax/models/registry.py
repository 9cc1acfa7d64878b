"""Builds models and encoders by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from alignment_jax.core import ConfigError
from alignment_jax.models.adapters import Adapters
from alignment_jax.models.encoders import ENCODERS
from alignment_jax.models.fusion_classifier import FusionClassifier
from alignment_jax.models.two_tower import TwoTower

MODELS: dict[str, type[nn.Module]] = {
    "adapters": Adapters,
    "fusion_classifier": FusionClassifier,
    "two_tower": TwoTower,
}
ENCODER_OPTIONS = ("encoder_a", "encoder_b", "encoder_c")
DTYPES = ("float32", "bfloat16")


def build_model(name: str, *, dtype: str = "float32", axis_name: str | None = None, **options: Any) -> nn.Module:
    """Builds a model from plain values.

    Args:
      name: "adapters", "two_tower" or "fusion_classifier".
      dtype: of the arithmetic, "float32" or "bfloat16"; parameters and outputs are float32 either way.
      axis_name: mesh axis that the batch is split over, for batch norm's statistics; None on one device.
      **options: attributes of the model. An encoder is a name, or a mapping with `name` and its attributes.

    Returns:
      The flax module.

    Raises:
      ConfigError: an unknown name or option (the message lists the known ones), or a value out of range.

    >>> model = build_model("two_tower", encoder_a="resnet18", encoder_b={"name": "lstm", "vocab_size": 100}, dim=64)
    >>> model.encoder_a.depth, model.encoder_b.vocab_size
    (18, 100)
    >>> build_model("adapters", blocks=2)
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.ConfigError: unknown option 'blocks' of model 'adapters'; known: bias_init, blocks_a, ...
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    for key in ENCODER_OPTIONS:
        spec = options.get(key)
        if isinstance(spec, str | Mapping):
            options[key] = build_encoder(spec, dtype=dtype, axis_name=axis_name)
    return _make("model", name, MODELS[name], {}, options, dtype=dtype, axis_name=axis_name)


def build_encoder(spec: str | Mapping[str, Any], *, dtype: str = "float32", axis_name: str | None = None) -> nn.Module:
    """Builds an encoder from its name, or from a mapping with `name` and its attributes.

    Raises:
      ConfigError: as `build_model` does.

    >>> build_encoder({"name": "vit", "width": 64, "heads": 2}).width
    64
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if name not in ENCODERS:
        raise ConfigError(f"unknown encoder {name!r}; known: {', '.join(sorted(ENCODERS))}")
    module, fixed = ENCODERS[name]
    return _make("encoder", name, module, fixed, options, dtype=dtype, axis_name=axis_name)


def _make(
    kind: str,
    name: str,
    module: type[nn.Module],
    fixed: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    dtype: str,
    axis_name: str | None,
) -> nn.Module:
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    fields = {field.name: field for field in dataclasses.fields(module) if field.name not in ("parent", "name")}
    shared = {"dtype": jnp.dtype(dtype), "axis_name": axis_name}
    known = sorted(set(fields) - set(shared) - set(fixed))
    for option in options:
        if option not in known:
            raise ConfigError(f"unknown option {option!r} of {kind} {name!r}; known: {', '.join(known)}")
    for option in known:
        if fields[option].default is dataclasses.MISSING and option not in options:
            raise ConfigError(f"{kind} {name!r} needs the option {option!r}")
    # Sequences arrive as lists from JSON and the command line; a module's attributes must be hashable.
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return module(**fixed, **values, **{key: value for key, value in shared.items() if key in fields})
