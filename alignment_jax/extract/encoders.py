"""Encoders by name: `PREFIX:MODEL` -> a function from images or texts to vectors.

To add a kind of encoder, add one file with `open_image_encoder` and `open_text_encoder` and one line here.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError

POOLINGS = ("auto", "cls", "mean", "pooler")
COMPUTE_DTYPES = ("float32", "bfloat16")


def _as_they_are(items: Any) -> Any:
    return items


def by_characters(texts: Sequence[str], size: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Batches of texts of similar length, because a batch is padded to its longest text.

    >>> [(rows.tolist(), batch) for rows, batch in by_characters(["a", "a red dog", "red"], 2)]
    [([0, 2], ['a', 'red']), ([1], ['a red dog'])]
    """
    order = np.argsort([len(each) for each in texts], kind="stable")
    for k in range(0, len(order), size):
        yield order[k : k + size], [texts[i] for i in order[k : k + size]]


@dataclasses.dataclass(frozen=True)
class Stages:
    """An encoder in parts, so that the host prepares the next batch while the devices compute.

    Attributes:
      prepare: items -> a batch on the host; called from several threads.
      launch: (batch, size) -> a result that is being computed; `size` is that of all batches, for one compiled program.
      collect: result -> [k, width]; waits for it.
      arrange: (texts, size) -> (rows, batch) of every batch, in an order that suits the encoder.
      devices: how many share a batch.
    """

    prepare: Callable[[Sequence[Any]], Any]
    launch: Callable[[Any, int], Any]
    collect: Callable[[Any], np.ndarray]
    arrange: Callable[[Sequence[str], int], Iterable[tuple[np.ndarray, Any]]] = by_characters
    devices: int = 1


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A frozen encoder.

    Attributes:
      encode: uint8 [H, W, 3] images of any sizes, or texts -> floating point [k, width].
      identity: JSON values of the model, its weights and all other settings that its vectors depend on; `name` and
        `options` open it again (see `reopen`). Versions of libraries are no part of it: they give the same vectors.
      stages: the same function in parts; None: `encode` alone.
      notes: one line for each remark to the user, for example why it does not run in JAX.
    """

    encode: Callable[[Sequence[Any]], np.ndarray]
    identity: dict[str, Any]
    stages: Stages | None = None
    notes: tuple[str, ...] = ()

    def in_stages(self) -> Stages:
        """`stages`, or `encode` as one stage."""
        encode = self.encode
        return self.stages or Stages(_as_they_are, lambda batch, size: encode(batch), _as_they_are)


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run a model.

    Attributes:
      pooling: of patch or token vectors: "cls" (the first), "mean", "pooler" (the pooled output of the model), or
        "auto" (by the model's files or its kind).
      prefix: prepended to every text ("query: " for E5).
      device: a device such as "cpu" or "cuda:1"; "auto": in JAX all of this process, in PyTorch a GPU if there is one.
      download: download a missing model from the Hugging Face hub.
      compute_dtype: of activations and products in JAX, "float32" or "bfloat16".
    """

    pooling: str = "auto"
    prefix: str = ""
    device: str = "auto"
    download: bool = False
    compute_dtype: str = "float32"


_HERE = "alignment_jax.extract."
ENCODERS = {
    "hf": _HERE + "huggingface",
    "st": _HERE + "sentence_transformers",
    "torch": _HERE + "pytorch",
    "onnx": _HERE + "onnx",
}


def open_encoder(name: str, *, side: str, options: Options | None = None) -> Encoder:
    """Loads an encoder.

    Args:
      name: `hf:NAME_OR_PATH` (models of transformers), `st:NAME_OR_PATH` (sentence-transformers, texts only),
        `torch:NAME_OR_PATH` (the same in PyTorch) or `onnx:FILE`.
      side: "image" or "text".
      options: see `Options`.

    Raises:
      ConfigError: unknown kind of encoder, or the model is missing, has no safetensors, or does not encode this side.
      MissingPackageError: the library that runs it is not installed.
    """
    options = options or Options()
    if options.pooling not in POOLINGS:
        raise ConfigError(f"{side}_pooling must be one of {', '.join(POOLINGS)}, got {options.pooling!r}")
    if options.compute_dtype not in COMPUTE_DTYPES:
        raise ConfigError(
            f"--compute_dtype is {options.compute_dtype!r}; it must be one of {', '.join(COMPUTE_DTYPES)}"
        )
    prefix, colon, model = name.partition(":")
    if prefix not in ENCODERS or not colon or not model:
        known = ", ".join(f"{prefix}:MODEL" for prefix in ENCODERS)
        raise ConfigError(f"--{side}_encoder is {name!r}; it must be one of {known}")
    module = importlib.import_module(ENCODERS[prefix])
    encoder: Encoder = getattr(module, f"open_{side}_encoder")(model, options)
    if options.compute_dtype != "float32" and encoder.stages is None:
        why = "".join(f" ({note})" for note in encoder.notes)
        raise ConfigError(f"--compute_dtype is {options.compute_dtype!r}, but {name} does not run in JAX{why}")
    kind, _, model = encoder.identity.get("name", name).partition(":")
    path = pathlib.Path(model).expanduser()
    if path.exists():  # a run may use the record from another folder
        model = str(path.absolute())
    asked = {"pooling": options.pooling, "prefix": options.prefix}
    if options.compute_dtype != "float32":
        asked["compute_dtype"] = options.compute_dtype
    rest = {key: value for key, value in encoder.identity.items() if key != "name"}
    identity = {"name": f"{kind}:{model}", **rest, "options": asked}
    return dataclasses.replace(encoder, identity=identity)
