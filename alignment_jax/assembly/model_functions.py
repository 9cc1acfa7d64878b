"""Builds the model of a configuration as pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import models
from alignment_jax.assembly.classifier import build_classifier, is_classifier
from alignment_jax.assembly.flax_modules import pure_functions
from alignment_jax.assembly.modality_checks import with_vocabulary
from alignment_jax.assembly.tuned_parameters import with_checkpoints
from alignment_jax.assembly.weighted_cosine import with_weighted_cosine
from alignment_jax.train.experiment import Model
from alignment_jax.train.gradient_cache import in_micro_batches, refuse_batch_statistics
from alignment_jax.train.step import AXIS


def build_model_functions(
    model: ConfigDict,
    temperature: ConfigDict,
    *,
    logit_scale: Mapping[str, bool],
    tokenizer: Any = None,
    max_length: int = 0,
    classes: int = 0,
    several: bool = False,
    weighted: bool = False,
) -> Model:
    """The model as pure functions: towers with a temperature, or a classifier.

    Args:
      model: the section `model` of the configuration.
      temperature: the section `temperature`; a classifier does not read it.
      logit_scale: the scalars that the model learns beside its towers (`methods.logit_scale_options`).
      tokenizer: of a model that reads texts.
      max_length: tokens of a text.
      classes: of a classifier.
      several: whether batches are split over devices.
      weighted: embeddings are compared by a weighted cosine (CSA).
    """
    if is_classifier(model):
        found = build_classifier(model, classes=classes, tokenizer=tokenizer, max_length=max_length, several=several)
        return with_checkpoints(found, model)
    options = model.to_dict()
    name = options.pop("name")
    low, high = temperature.min, temperature.max
    options |= {"temperature": temperature.init, "temperature_min": low, "temperature_max": high, **logit_scale}
    options = with_vocabulary(options, tokenizer, max_length)
    module = models.build_model(name, axis_name=AXIS if several else None, **options)

    init, apply = pure_functions(module)

    def encode(method: str):
        return lambda params, model_state, items: module.apply({"params": params, **model_state}, items, method=method)

    towers = Model(
        init=init,
        apply=apply,
        encode_a=encode("encode_a"),
        encode_b=encode("encode_b"),
        project=lambda params: models.clamp_temperature(params, temperature_min=low, temperature_max=high),
    )
    return with_weighted_cosine(towers, dim=model.dim) if weighted else with_checkpoints(towers, model)


def with_micro_batches(model: Model, first_batch: Sequence[np.ndarray], micro_batch: int) -> Model:
    """The model with gradient caching where `optimizer.micro_batch` is above 0.

    Raises:
      ConfigError: the model cannot read such a batch, or has batch statistics.
    """
    # Evaluated without micro-batches too: an error of the model is raised before a workdir is touched.
    _, model_state = jax.eval_shape(model.init, jax.random.key(0), *first_batch)
    if not micro_batch:
        return model
    refuse_batch_statistics(model_state)
    cached = in_micro_batches(model.apply, micro_batch=micro_batch)
    return dataclasses.replace(model, apply=cached, whole_apply=model.apply)
