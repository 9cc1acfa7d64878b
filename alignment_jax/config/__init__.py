"""Configuration: defaults, arguments of config files, durations, methods by name."""

from ml_collections import ConfigDict

from alignment_jax.config.arguments import parse_arg
from alignment_jax.config.config_file import load
from alignment_jax.config.defaults import (
    adapters,
    default,
    finetuned,
    fusion_classifier,
    is_pretrained,
    pretrained_encoder,
    two_tower,
)
from alignment_jax.config.durations import Duration, parse_duration
from alignment_jax.config.papers import audio_visual_inputs, bss_training, sampling_order, shrink_for_runlocal
from alignment_jax.config.recipes import apply_balance, apply_methods
from alignment_jax.config.titles import use_data
from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import ConfigError

__all__ = [
    "ConfigDict",
    "ConfigError",
    "Duration",
    "adapters",
    "apply_balance",
    "apply_methods",
    "audio_visual_inputs",
    "bss_training",
    "default",
    "finetuned",
    "fusion_classifier",
    "is_pretrained",
    "load",
    "parse_arg",
    "parse_duration",
    "pretrained_encoder",
    "sampling_order",
    "shrink_for_runlocal",
    "two_tower",
    "use_data",
]

__getattr__ = renamed_names(
    __name__, {"run_briefly": "shrink_for_runlocal", "sound_and_picture": "audio_visual_inputs"}
)
