"""Checks that a model reads the kinds of columns that a data set has."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.models.encoders import ENCODERS, READS

_HINTS = {
    "adapters": "it takes frozen latents: use embeddings:FILE.npz, or configs/flickr8k_raw.py for images and texts",
    "two_tower": "its encoders take another kind: for frozen latents use configs/flickr8k_frozen.py, or change "
    "model.encoder_a and model.encoder_b",
    "fusion_classifier": "its encoders take another kind: use lstm or transformer for texts, mlp for feature vectors, "
    "convnet or resnet18 for recordings and images",
}


def check_modalities(model: ConfigDict, split: data.PairSplit, *, spec: str) -> None:
    """Raises ConfigError when the model cannot read this data; `spec` is the data set's name."""
    columns = split_columns(split)
    if all(_reads(model, side, column) for side, column in columns.items()):
        return
    kinds = [column.kind for column in columns.values()]
    found = ", ".join(kinds[:-1]) + f" and {kinds[-1]}"
    raise ConfigError(f"model {model.name} cannot read {spec} ({found}): {_HINTS[model.name]}")


def split_columns(split: data.PairSplit) -> dict[str, data.Column]:
    """The columns of a split by side: a, b and, where there is a third modality, c."""
    return {"a": split.a, "b": split.b, **({} if split.c is None else {"c": split.c})}


def _reads(model: ConfigDict, side: str, column: data.Column) -> bool:
    if model.name == "adapters":
        return column.kind == "embedding"
    encoder = model.get(f"encoder_{side}")
    if encoder is None:
        return True  # check_classification reports the missing encoder
    name = encoder if isinstance(encoder, str) else encoder.name
    if column.kind == "text":
        found = "text"
    else:
        found = "vectors" if isinstance(column, data.ArrayColumn) and column.array.ndim == 2 else "pixels"
    return READS.get(name, "pixels") == found


def reads_text(name: str) -> bool:
    """Whether an encoder takes token ids.

    >>> reads_text("lstm"), reads_text("vit")
    (True, False)
    """
    return READS.get(name) == "text"


def with_vocabulary(options: dict[str, Any], tokenizer: Any, max_length: int) -> dict[str, Any]:
    """The model's options with the vocabulary size and the longest text in those of its text encoders."""
    if tokenizer is None:
        return options
    completed = dict(options)
    for key, encoder in options.items():
        if isinstance(encoder, dict) and encoder.get("name") in ENCODERS:
            known = {field.name for field in dataclasses.fields(ENCODERS[encoder["name"]][0])}
            values = {"vocab_size": tokenizer.vocab_size, "max_length": max_length}
            completed[key] = {**encoder, **{name: value for name, value in values.items() if name in known}}
    return completed
