"""`torch:NAME_OR_PATH`: the PyTorch path of `hf:` and `st:`, also for models that run in JAX.

`torch:hf:NAME` is transformers, `torch:st:NAME` sentence-transformers; without either, texts of a folder with
sentence-transformers' modules.json are `st:`, all others `hf:`. The vectors are those of `hf:` and `st:`, and so is the
name in the record: a file that one path began, the other one can finish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from alignment_jax.core.errors import ConfigError, MissingPackageError
from alignment_jax.core.hub import model_folder
from alignment_jax.extract.encoders import Encoder, Options


def open_image_encoder(name: str, options: Options) -> Encoder:
    """An image encoder; see `encoders.open_encoder`."""
    from alignment_jax.extract import torch_huggingface

    kind, model = _kind_of(name, options, texts=False)
    if kind == "st":
        raise ConfigError(f"--image_encoder=torch:{name}: it encodes only texts; use torch:hf: for images")
    return _named(torch_huggingface.open_image_encoder(model, options), kind, model)


def open_text_encoder(name: str, options: Options) -> Encoder:
    """A text encoder; see `encoders.open_encoder`."""
    from alignment_jax.extract import torch_huggingface, torch_sentence_transformers

    kind, model = _kind_of(name, options, texts=True)
    module = torch_sentence_transformers if kind == "st" else torch_huggingface
    return _named(module.open_text_encoder(model, options), kind, model)


def if_needed(in_jax: Callable[[], Encoder], in_torch: Callable[[], Encoder], *, where: str) -> Encoder:
    """The encoder in JAX; where that is not possible, in PyTorch, with a note that says why.

    Raises:
      ConfigError: neither runs it.
    """
    try:
        return in_jax()
    except ConfigError as error:
        reason = error
    try:
        encoder = in_torch()
    except MissingPackageError as error:
        raise ConfigError(f"{where} does not run in JAX: {reason}. PyTorch may run it: {error}") from reason
    return dataclasses.replace(encoder, notes=(f"{where} runs in PyTorch, not in JAX: {reason}", *encoder.notes))


def _kind_of(name: str, options: Options, *, texts: bool) -> tuple[str, str]:
    kind, colon, model = name.partition(":")
    if colon and kind in ("hf", "st") and model:
        return kind, model
    sentence = texts and (model_folder(name, download=options.download) / "modules.json").is_file()
    return ("st" if sentence else "hf"), name


def _named(encoder: Encoder, kind: str, model: str) -> Encoder:
    return dataclasses.replace(encoder, identity={"name": f"{kind}:{model}", **encoder.identity})
