"""Frozen encoders: encode images and texts once; training reads the stored latents."""

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.extract.encode_columns import encode_images, encode_texts
from alignment_jax.extract.encoders import ENCODERS, Encoder, Options, Stages, open_encoder
from alignment_jax.extract.item_count import OnProgress
from alignment_jax.extract.latents import ExtractSettings, extract
from alignment_jax.extract.prompt_latents import extract_prompts
from alignment_jax.extract.recorded import reopen
from alignment_jax.extract.sharing import Share
from alignment_jax.extract.views import make_views, view_names

__all__ = [
    "ENCODERS",
    "Encoder",
    "ExtractSettings",
    "OnProgress",
    "Options",
    "Share",
    "Stages",
    "encode_images",
    "encode_texts",
    "extract",
    "extract_prompts",
    "make_views",
    "open_encoder",
    "reopen",
    "view_names",
]

__getattr__ = renamed_names(__name__, {"Settings": "ExtractSettings"})
