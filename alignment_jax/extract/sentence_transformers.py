"""`st:NAME_OR_PATH`: text models of sentence-transformers, with the pooling and normalisation of the model's files.

Families of `models.pretrained` run in JAX, other models in PyTorch by sentence-transformers; both give the same
vectors.
"""

from __future__ import annotations

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.hub import model_folder
from alignment_jax.extract import pytorch
from alignment_jax.extract.encoders import Encoder, Options


def open_image_encoder(name: str, options: Options) -> Encoder:
    """Raises ConfigError: these models encode only texts."""
    raise ConfigError(f"--image_encoder=st:{name}: it encodes only texts; use hf: or onnx: for images")


def open_text_encoder(name: str, options: Options) -> Encoder:
    """A text encoder; see `encoders.open_encoder`."""
    from alignment_jax.extract import pretrained

    where, folder = f"st:{name}", model_folder(name, download=options.download)
    if options.pooling != "auto":
        raise ConfigError(f"{where}: the model's files set its pooling; remove --text_pooling, or use hf:")
    return pytorch.if_needed(
        lambda: pretrained.text_encoder(folder, options, where=where, sentence=True),
        lambda: pytorch.open_text_encoder(where, options),
        where=where,
    )
