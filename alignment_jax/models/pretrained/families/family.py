"""One family of checkpoints: how its config.json becomes a module, and the names of its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.models.pretrained.image_text import ImageText
from alignment_jax.models.pretrained.pooling import SentenceModules
from alignment_jax.models.pretrained.text import TextTower
from alignment_jax.models.pretrained.transformer import ACTIVATIONS, Layers, Numerics
from alignment_jax.models.pretrained.vision import ImageTower
from alignment_jax.models.pretrained.weights import Weight

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a module is built from.

    Attributes:
      config: content of config.json.
      names: of the weights, without the family's prefixes; they say which optional parts there are.
      sentence: of sentence-transformers' files.
    """

    config: Config
    names: frozenset[str]
    sentence: SentenceModules


@dataclasses.dataclass(frozen=True)
class Family:
    """A family: a table of names and a few switches.

    Attributes:
      build: the module of a checkpoint.
      weights: the names of all parameters that a checkpoint with this config.json may have.
      architecture: transformers' class of the whole model, written into config.json.
      prefixes: left off from the names in a file: those of models with a head around this one.
      saved_prefix: put before all names when saving.
      ignored: regular expressions of weights that are not used: heads and constants.
    """

    build: Callable[[Checkpoint, Numerics], ImageTower | TextTower | ImageText]
    weights: Callable[[Config], Sequence[Weight]]
    architecture: str
    prefixes: tuple[str, ...] = ()
    saved_prefix: Callable[[str], str] = str
    ignored: tuple[str, ...] = ()


def layers_of(config: Config, **switches: Any) -> Layers:
    """The transformer of a config.json, where its keys are the usual ones.

    Raises:
      ConfigError: an unknown activation, or a width that the heads do not divide.
    """
    width, heads = size(config, "hidden_size"), size(config, "num_attention_heads")
    if width % heads:
        raise ConfigError(f"config.json: num_attention_heads {heads} does not divide hidden_size {width}")
    values = {
        "hidden": config.get("intermediate_size"),
        "activation": activation(config),
        "epsilon": config.get("layer_norm_eps"),
        **switches,
    }
    return Layers(width=width, depth=size(config, "num_hidden_layers"), heads=heads, **values)


def activation(config: Config) -> str:
    """`hidden_act`, checked."""
    found = config.get("hidden_act")
    if found not in ACTIVATIONS:
        raise ConfigError(f"config.json: no hidden_act {found!r}{suggest(str(found), ACTIVATIONS)}")
    return str(found)


def size(config: Config, key: str) -> int:
    """A positive number of config.json."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"config.json: {key} must be a positive number, got {value!r}")
    return value


def pair(config: Config, key: str) -> tuple[int, int]:
    """(height, width) of a number or of a list of two."""
    value = config.get(key)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return int(value[0]), int(value[1])
    return size(config, key), size(config, key)


def grid_and_patch(config: Config) -> tuple[tuple[int, int], tuple[int, int]]:
    """`grid` and `patch` of an `ImageSpec`."""
    image, patch = pair(config, "image_size"), pair(config, "patch_size")
    return (image[0] // patch[0], image[1] // patch[1]), patch
