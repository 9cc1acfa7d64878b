"""Models: flax modules that turn a batch into embeddings or logits; they know nothing of losses, data or training.

>>> from alignment_jax import models
>>> models.build("adapters", dim=64, blocks_a=2, blocks_b=2, dropout=0.3).dim
64
"""

from alignment_jax.models.adapters import Adapters, normalized_input
from alignment_jax.models.decay import decay_mask
from alignment_jax.models.dropout import Dropout, row_dropout
from alignment_jax.models.encoders import ENCODERS
from alignment_jax.models.fusion_classifier import FusionClassifier, predict
from alignment_jax.models.linear_start import start_from
from alignment_jax.models.norm import BatchNorm
from alignment_jax.models.registry import MODELS, build, build_encoder
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
    "build",
    "build_encoder",
    "clamp_temperature",
    "decay_mask",
    "normalized_input",
    "predict",
    "row_dropout",
    "start_from",
]
