"""Configurations: the tree of defaults, config-file arguments, durations; `build` turns names into functions."""

from ml_collections import ConfigDict

from alignment_jax.config.arguments import parse_arg
from alignment_jax.config.defaults import adapters, default, fusion_classifier, two_tower
from alignment_jax.config.durations import Duration, parse_duration
from alignment_jax.config.papers import bss_training, run_briefly, sound_and_picture
from alignment_jax.config.recipes import apply_methods
from alignment_jax.config.titles import use_data
from alignment_jax.core.errors import ConfigError

__all__ = [
    "ConfigDict",
    "ConfigError",
    "Duration",
    "adapters",
    "apply_methods",
    "bss_training",
    "default",
    "fusion_classifier",
    "parse_arg",
    "parse_duration",
    "run_briefly",
    "sound_and_picture",
    "two_tower",
    "use_data",
]
