"""The closed form for encoders that start from checkpoints: CCA on what their towers give before the first step."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alignment_jax import data, evals
from alignment_jax.assembly.cca_start import MAX_VALIDATION_ITEMS
from alignment_jax.assembly.checkpoint_inputs import CheckpointEncoder, checkpoint_encoders, trailing_padding
from alignment_jax.assembly.devices import training_devices
from alignment_jax.assembly.inputs import item_batches
from alignment_jax.assembly.prepared_data import PreparedData
from alignment_jax.assembly.training_moments import MAX_TRAINING_ITEMS, subsample
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.batch_parallel import BatchParallel

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
    # The items that the closed form reads, no more: towers take far longer than the fit.
    splits = {
        name: subsample(prepared.prepared[name], most, config.data_seed)
        for name, most in (("train", MAX_TRAINING_ITEMS), ("val", MAX_VALIDATION_ITEMS))
        if name in prepared.prepared
    }
    splits = {
        name: split.replace(
            **{side: _embedded(prepared, getattr(split, side), side, one) for side, one in encoders.items()}
        )
        for name, split in splits.items()
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
    config, tower = prepared.config, checkpoint.tower()
    images = checkpoint.images(int(settings.get("image_size") or 0)) if checkpoint.side == "image" else None

    def encoded(params, model_state, items):
        if images is not None:
            return tower.apply({"params": params}, images.normalize(items), method="encode_image")
        return tower.apply({"params": params}, items, method="encode_text")

    (batches, *_) = item_batches(config.eval, side, column, prepared.inputs)
    padding = trailing_padding(config.model).get(side)
    devices = [one for one in training_devices(config.train.devices) if one.process_index == jax.process_index()]
    params = jax.tree.map(jnp.asarray, checkpoint.params())
    encode, width, items = BatchParallel(encoded, devices).start({"params": params, "model_state": {}}, batches())
    found = evals.embed_items(encode, items, padding=padding, width=width)
    return data.ArrayColumn(found, name=f"vectors of side {side}")
