"""The closed form for encoders that start from checkpoints: CCA on what their towers give before the first step."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals
from alignment_jax.assembly.checkpoint_inputs import CheckpointEncoder, checkpoint_encoders, trailing_padding
from alignment_jax.assembly.inputs import item_batches
from alignment_jax.assembly.prepared_data import PreparedData
from alignment_jax.core.errors import ConfigError

# Settings that cross-validation chooses.
_CHOSEN = ("init", "eval", "train")


def needs_tower_latents(config: ConfigDict) -> bool:
    """Whether a closed form starts the projections of pretrained towers.

    Raises:
      ConfigError: a model of towers without affine projections.
    """
    if config.init.name != "cca" or not checkpoint_encoders(config.model):
        return False
    if config.model.get("projection") != "affine":
        raise ConfigError(
            "init.name=cca starts affine projections, but model.projection is "
            f"{config.model.get('projection')}; set it to affine, or init.name=random"
        )
    if config.init.similarity != "cosine":
        raise ConfigError("init.similarity=weighted_cosine weights adapters only; set it to cosine")
    return True


def as_latents(prepared: PreparedData) -> PreparedData:
    """The same data with the towers' vectors in place of raw items, for a linear model on them.

    Args:
      prepared: of a model for which `needs_tower_latents`.
    """
    config = prepared.config.copy_and_resolve_references()
    linear = {"name": "adapters", "dim": config.model.dim, "blocks_a": 0, "blocks_b": 0, "input_norm": "l2"}
    encoders = {one.option.removeprefix("encoder_"): one for one in checkpoint_encoders(config.model)}
    splits = {
        name: split.replace(
            **{side: _embedded(prepared, getattr(split, side), side, one) for side, one in encoders.items()}
        )
        for name, split in prepared.prepared.items()
        if name in ("train", "val")
    }
    with config.unlocked():
        config.model = ConfigDict({**linear, "final_norm": False, "zero_init": True})
    return dataclasses.replace(prepared, config=config, prepared=splits)


def with_settings_of(prepared: PreparedData, latents: PreparedData) -> PreparedData:
    """The data of the towers with the settings and notes that were chosen for their latents."""
    config = prepared.config.copy_and_resolve_references()
    for section in _CHOSEN:
        config[section] = latents.config[section]
    return dataclasses.replace(prepared, config=config, notes=latents.notes)


def _embedded(prepared: PreparedData, column: data.Column, side: str, encoder: CheckpointEncoder) -> data.ArrayColumn:
    """The vectors of a column, float32, before any tuning."""
    settings, checkpoint = encoder.settings, encoder.checkpoint
    tower, params = checkpoint.tower(), checkpoint.params()
    images = checkpoint.images(int(settings.get("image_size") or 0)) if checkpoint.side == "image" else None

    @jax.jit
    def encode(params, items):
        if images is not None:
            return tower.apply({"params": params}, images.normalize(items), method="encode_image")
        return tower.apply({"params": params}, items, method="encode_text")

    (batches, *_) = item_batches(prepared.config.eval, side, column, prepared.inputs)
    padding = trailing_padding(prepared.config.model).get(side)
    found = evals.embed_items(lambda items: encode(params, np.asarray(items)), batches(), padding=padding)
    return data.ArrayColumn(found, name=f"vectors of side {side}")
