"""`hf:NAME_OR_PATH`: vision and text models of the Hugging Face hub.

Families of `models.pretrained` run in JAX, other models in PyTorch by transformers; both give the same vectors. Models
of both sides (CLIP, SigLIP): the projected features; DINOv2 and the vision towers of CLIP and SigLIP: the pooled
output; other vision models: the class token; text models: the mean over tokens, or the class token if the model's files
ask for it (BGE). Weights are read only from safetensors; remote code is never run.
"""

from __future__ import annotations

from alignment_jax.core.hub import model_folder
from alignment_jax.extract import pytorch
from alignment_jax.extract.encoders import Encoder, Options


def open_image_encoder(name: str, options: Options) -> Encoder:
    """An image encoder; see `encoders.open_encoder`."""
    from alignment_jax.extract import pretrained

    where, folder = f"hf:{name}", model_folder(name, download=options.download)
    return pytorch.if_needed(
        lambda: pretrained.image_encoder(folder, options, where=where),
        lambda: pytorch.open_image_encoder(where, options),
        where=where,
    )


def open_text_encoder(name: str, options: Options) -> Encoder:
    """A text encoder; see `encoders.open_encoder`."""
    from alignment_jax.extract import pretrained

    where, folder = f"hf:{name}", model_folder(name, download=options.download)
    return pytorch.if_needed(
        lambda: pretrained.text_encoder(folder, options, where=where, sentence=False),
        lambda: pytorch.open_text_encoder(where, options),
        where=where,
    )
