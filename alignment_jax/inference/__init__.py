"""Inference: uses the model of a finished run.

`open_run` gives a `TrainedModel`, which embeds and evaluates data.
"""

from alignment_jax.inference.aligner import Aligner, load
from alignment_jax.inference.analysis import (
    analyse,
    analyse_models,
    applicable_noises,
    embedding_arrays,
    softmax_temperature,
)
from alignment_jax.inference.class_prompts import zero_shot_accuracy
from alignment_jax.inference.export import export_run
from alignment_jax.inference.one_side import embed_one_side
from alignment_jax.inference.open_index import open_index
from alignment_jax.inference.query_bank import RunHubness, load_query_bank
from alignment_jax.inference.raw_latents import FrozenEncoders, frozen_encoders
from alignment_jax.inference.search_index import Hit, SearchIndex
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.inference.trained_model import TrainedModel, load_trained, open_run, open_source

__all__ = [
    "Aligner",
    "FrozenEncoders",
    "Hit",
    "RunHubness",
    "SearchIndex",
    "SeedModels",
    "TrainedModel",
    "analyse",
    "analyse_models",
    "applicable_noises",
    "embed_one_side",
    "embedding_arrays",
    "export_run",
    "frozen_encoders",
    "load",
    "load_query_bank",
    "load_trained",
    "open_index",
    "open_run",
    "open_source",
    "softmax_temperature",
    "zero_shot_accuracy",
]
