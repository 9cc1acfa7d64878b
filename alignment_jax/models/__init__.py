"""Flax modules that map a batch to embeddings or logits.

>>> from alignment_jax import models
>>> models.build_model("adapters", dim=64, blocks_a=2, blocks_b=2, dropout=0.3).dim
64
"""

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.models import pretrained, tuning
from alignment_jax.models.adapters import Adapters, normalized_input
from alignment_jax.models.decay import decay_mask
from alignment_jax.models.dropout import Dropout, row_dropout
from alignment_jax.models.encoders import ENCODERS
from alignment_jax.models.fusion_classifier import FusionClassifier, sum_head_logits
from alignment_jax.models.linear_start import init_projection, init_tower_projection, used_dimensions
from alignment_jax.models.norm import BatchNorm
from alignment_jax.models.registry import MODELS, build_encoder, build_model
from alignment_jax.models.temperature import LogitScale, clamp_temperature
from alignment_jax.models.two_tower import TwoTower

__all__ = [
    "ENCODERS",
    "MODELS",
    "Adapters",
    "BatchNorm",
    "Dropout",
    "FusionClassifier",
    "LogitScale",
    "TwoTower",
    "build_encoder",
    "build_model",
    "clamp_temperature",
    "decay_mask",
    "init_projection",
    "init_tower_projection",
    "normalized_input",
    "pretrained",
    "row_dropout",
    "sum_head_logits",
    "tuning",
    "used_dimensions",
]

__getattr__ = renamed_names(
    __name__, {"build": "build_model", "predict": "sum_head_logits", "start_from": "init_projection"}
)
