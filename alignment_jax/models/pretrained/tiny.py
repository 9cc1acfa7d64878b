"""Checkpoints with random weights, for examples, tests and benchmarks without a download."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.core.storage import write_bytes_atomic
from alignment_jax.models.pretrained.families import FAMILIES
from alignment_jax.models.pretrained.families.family import Checkpoint
from alignment_jax.models.pretrained.pooling import SentenceModules
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.weights import WEIGHTS, tensors_of, write_tensors
from alignment_jax.models.pretrained.word_tokenizer import END, SPECIAL, word_tokenizer

_WORDS = ("a", "red", "dog", "cat")
_POSITIONS, _PIXELS, _PATCH = 12, 8, 4


def _layers(depth: int) -> dict[str, int]:
    return {"hidden_size": 8, "num_hidden_layers": depth, "num_attention_heads": 2, "intermediate_size": 16}


_TEXT = {"vocab_size": len(SPECIAL) + len(_WORDS), "max_position_embeddings": _POSITIONS}
_CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**_layers(1), **_TEXT},
    "clip": {
        "projection_dim": 6,
        "text_config": {**_layers(2), **_TEXT, "eos_token_id": END},
        "vision_config": {**_layers(2), "image_size": _PIXELS, "patch_size": _PATCH},
    },
}
_IMAGES = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": _PIXELS},
    "crop_size": {"height": _PIXELS, "width": _PIXELS},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
}


def tiny_folder(folder: str | os.PathLike[str], *, family: str = "bert", seed: int = 0) -> pathlib.Path:
    """Writes a checkpoint of width 8 that reads "a", "red", "dog" and "cat", and returns its folder.

    Args:
      folder: new or empty.
      family: "bert" with one layer, or "clip" with two layers in each tower and images of 8 x 8 pixels.
      seed: of the weights.

    Raises:
      ConfigError: another family.

    >>> import tempfile
    >>> sorted(file.name for file in tiny_folder(tempfile.mkdtemp()).iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    if family not in _CONFIGS:
        raise ConfigError(f"no tiny checkpoint of family {family!r}{suggest(family, _CONFIGS)}")
    files = word_tokenizer(_WORDS)
    if family == "clip":
        files["preprocessor_config"] = _IMAGES
    return random_folder(folder, {"model_type": family, **_CONFIGS[family]}, files=files, seed=seed)


def random_folder(
    folder: str | os.PathLike[str], config: Mapping[str, Any], *, files: Mapping[str, Any] | None = None, seed: int = 0
) -> pathlib.Path:
    """Writes a checkpoint of any size and family with random weights, and returns its folder.

    Args:
      folder: created if it does not exist.
      config: content of config.json; `model_type` is a key of `FAMILIES`.
      files: further JSON files by name, such as "preprocessor_config"; `word_tokenizer` makes those of a tokenizer.
      seed: of the weights.

    >>> import tempfile
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> vit = {"model_type": "vit", **sizes, "image_size": 28, "patch_size": 14}
    >>> processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 28, "width": 28}}
    >>> made = random_folder(tempfile.mkdtemp(), vit, files={"preprocessor_config": processor})
    >>> sorted(file.name for file in made.iterdir())
    ['config.json', 'model.safetensors', 'preprocessor_config.json']
    """
    target, family = pathlib.Path(folder), FAMILIES[config["model_type"]]
    target.mkdir(parents=True, exist_ok=True)
    module = family.build(Checkpoint(config, frozenset(), SentenceModules(target, ("mean",), False)), Numerics())
    shapes = jax.eval_shape(module.init, jax.random.key(0), *module.example())["params"]
    rng = np.random.default_rng(seed)
    params = unflatten({path: _values(path, leaf.shape, rng) for path, leaf in flatten(shapes)})
    write_tensors(target / WEIGHTS, tensors_of(params, family.weights(config), name=family.saved_prefix))
    for name, content in {"config": dict(config), **(files or {})}.items():
        write_bytes_atomic(target / f"{name}.json", json.dumps(content, indent=1).encode())
    return target


def _values(path: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if path == "logit_scale":
        return np.asarray(2.7, np.float32)
    # Kernels keep the size of activations; a stack of layers has an axis more.
    inputs = math.prod(shape[1 if "layers" in path.split("/") else 0 : -1]) if path.endswith("kernel") else 0
    spread = inputs**-0.5 if inputs else 0.3
    return (float(path.endswith("/scale")) + spread * rng.standard_normal(shape, np.float32)).astype(np.float32)
