"""Encoders by name: `PREFIX:MODEL` -> a function from images or texts to vectors.

To add a kind of encoder, add one file with `open_image_encoder` and `open_text_encoder` and one line here.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError

POOLINGS = ("auto", "cls", "mean", "pooler")


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A frozen encoder.

    Attributes:
      encode: uint8 [H, W, 3] images of any sizes, or texts -> floating point [k, width].
      identity: JSON values of the model, its weights and all other settings that its vectors depend on; `name` and
        `options` open it again (see `reopen`). Versions of libraries are no part of it: they give the same vectors.
    """

    encode: Callable[[Sequence[Any]], np.ndarray]
    identity: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run a model.

    Attributes:
      pooling: of patch or token vectors: "cls" (the first), "mean", "pooler" (the pooled output of the model), or
        "auto" (by the model's files or its kind).
      prefix: prepended to every text ("query: " for E5).
      device: a PyTorch device such as "cpu" or "cuda:1"; "auto" for a GPU if PyTorch finds one.
      download: download a missing model from the Hugging Face hub.
    """

    pooling: str = "auto"
    prefix: str = ""
    device: str = "auto"
    download: bool = False


_HERE = "alignment_jax.extract."
ENCODERS = {"hf": _HERE + "huggingface", "st": _HERE + "sentence_transformers", "onnx": _HERE + "onnx"}


def open_encoder(name: str, *, side: str, options: Options | None = None) -> Encoder:
    """Loads an encoder.

    Args:
      name: `hf:NAME_OR_PATH` (transformers), `st:NAME_OR_PATH` (sentence-transformers, texts only) or `onnx:FILE`.
      side: "image" or "text".
      options: see `Options`.

    Raises:
      ConfigError: unknown kind of encoder, or the model is missing, has no safetensors, or does not encode this side.
      MissingPackageError: the library that runs it is not installed.
    """
    options = options or Options()
    if options.pooling not in POOLINGS:
        raise ConfigError(f"{side}_pooling must be one of {', '.join(POOLINGS)}, got {options.pooling!r}")
    prefix, colon, model = name.partition(":")
    if prefix not in ENCODERS or not colon or not model:
        known = ", ".join(f"{prefix}:MODEL" for prefix in ENCODERS)
        raise ConfigError(f"--{side}_encoder is {name!r}; it must be one of {known}")
    module = importlib.import_module(ENCODERS[prefix])
    encoder: Encoder = getattr(module, f"open_{side}_encoder")(model, options)
    path = pathlib.Path(model).expanduser()
    if path.exists():  # a run may use the record from another folder
        name = f"{prefix}:{path.absolute()}"
    asked = {"pooling": options.pooling, "prefix": options.prefix}
    return dataclasses.replace(encoder, identity={"name": name, **encoder.identity, "options": asked})
