"""Names in the parameter trees of transformers, and the part of a tower that a parameter belongs to."""

from __future__ import annotations

from typing import Literal

LAYERS = "layers"  # a stack, its layers along axis 0
BELOW, ABOVE = "below", "above"  # the two parts of a stack that `split_parameters` has cut
LORA_A, LORA_B = "lora_a", "lora_b"
LOGITS = ("logit_scale", "logit_bias")
EMBEDDINGS = (
    "class_token", "embedding_norm", "mask_token", "norm_before", "patches", "positions", "registers", "token_types",
    "tokens", "words",
)  # fmt: skip


def stage(path: str) -> Literal["embeddings", "layers", "head"]:
    """Before, in or after the layers.

    >>> stage("image/patches/kernel"), stage("text/layers/norm1/scale"), stage("projection/kernel")
    ('embeddings', 'layers', 'head')
    """
    parts = path.split("/")
    if LAYERS in parts:
        return "layers"
    return "head" if set(parts).isdisjoint(EMBEDDINGS) else "embeddings"
