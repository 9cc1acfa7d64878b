"""Frozen encoders: images and texts become latents once, and every training after that reads those."""

from alignment_jax.extract.encoders import ENCODERS, Encoder, Options, open_encoder
from alignment_jax.extract.latents import Settings, extract
from alignment_jax.extract.progress import OnProgress
from alignment_jax.extract.prompt_latents import extract_prompts
from alignment_jax.extract.views import make_views, view_names

__all__ = [
    "ENCODERS",
    "Encoder",
    "OnProgress",
    "Options",
    "Settings",
    "extract",
    "extract_prompts",
    "make_views",
    "open_encoder",
    "view_names",
]
