"""Classification from two or three modalities: its model, its objective and what it cannot be combined with."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, models
from alignment_jax.assembly.flax_modules import pure_functions
from alignment_jax.assembly.modality_checks import with_vocabulary
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.classification_objective import FUSED, INPUTS, Classification
from alignment_jax.train.experiment import Model
from alignment_jax.train.step import AXIS

MODEL = "fusion_classifier"


def classifies(config: ConfigDict) -> bool:
    """Whether a configuration trains a classifier; otherwise it aligns two modalities."""
    return config.model.name == MODEL


def head_names(config: ConfigDict) -> tuple[str, ...]:
    """The heads of the configured model: one a modality, and the fused one."""
    return (*(name for name in INPUTS if config.model.get(f"encoder_{name}") is not None), FUSED)


def prediction_heads(config: ConfigDict) -> tuple[str, ...] | None:
    """The heads that a prediction sums; None for all.

    Raises:
      ConfigError: one that the model does not have.
    """
    text = config.classification.predict
    if text == "all":
        return None
    heads = tuple(name.strip() for name in text.split("+"))
    known = head_names(config)
    for name in heads:
        if name not in known:
            raise ConfigError(
                f"classification.predict is {text!r}; it must be 'all' or some of {', '.join(known)}, joined by +"
            )
    return heads


CLASS_WEIGHTS = ("none", "balanced")


def check_classification(config: ConfigDict, split: data.PairSplit, source: data.PairSource) -> None:
    """Raises ConfigError when the data has no labels, its text is made of them, or a method cannot apply."""
    if split.label is None:
        raise ConfigError(
            f"{config.data}: it has no labels; a classifier reads samples:FILE.csv (label and two or three of audio, "
            "image, text), posts:FILE.csv, av:FILE.csv or features:FILE.npz"
        )
    if source.from_label:
        modality = dict(zip(INPUTS, source.modalities, strict=False))[source.from_label[0]]
        other = (
            f"name a field of its own, as in {config.data},{source.from_label[0]}=FIELD"
            if source.name == "tfds"
            else "write posts:FILE.csv (columns image, text, label) or samples:FILE.csv (audio, image, text, label)"
        )
        raise ConfigError(
            f"{config.data}: its {modality} is the class itself, where a classifier reads the answer; {other}, or "
            "align images with class names (configs/flickr8k_raw.py) and classify with evaluate --zero_shot"
        )
    if len(split.b) != len(split.a):
        raise ConfigError(f"{config.data}: a classifier needs one item of each modality for each sample")
    modalities, encoders = (2 if split.c is None else 3), len(head_names(config)) - 1
    if modalities != encoders:
        raise ConfigError(f"{config.data} has {modalities} modalities, but model has {encoders} encoders")
    of_alignment = {
        "weighting.signal": config.weighting.signal != "fixed",
        "smoothing": bool(config.smoothing.start or config.smoothing.end),
        "temperature.schedule": config.temperature.schedule != "none",
        "margin.schedule": config.margin.schedule != "none",
        "perturb": bool(config.perturb.sigma or config.perturb.fusemix),
        "input.mismatched": bool(config.input.mismatched),
        "optimizer.micro_batch": bool(config.optimizer.micro_batch),
    }
    used = [name for name, on in of_alignment.items() if on]
    if used:
        raise ConfigError(f"{used[0]} acts on contrastive alignment; it does nothing for model.name={MODEL}")


def build_classification(config: ConfigDict, split: data.PairSplit, *, classes: int) -> Classification:
    """The objective with the configured weight of every head and every class.

    Args:
      config: the whole configuration.
      split: the training set.
      classes: number of classes, also those that train does not have.

    Raises:
      ConfigError: a weight is negative, or all are 0.
    """
    weights = {name: float(config.classification[f"weight_{name}"]) for name in head_names(config)}
    for name, weight in weights.items():
        if weight < 0:
            raise ConfigError(f"classification.weight_{name} must be at least 0, got {weight}")
    if not any(weights.values()):
        raise ConfigError("classification: every head's weight is 0; there is nothing to train")
    of_classes = None
    if config.classification.class_weights == "balanced":
        assert split.label is not None
        of_classes = balanced_weights(split.label, classes=classes)
    return Classification(weights=weights, class_weights=of_classes)


def balanced_weights(label: np.ndarray, *, classes: int) -> tuple[float, ...]:
    """n / (classes that occur * n_c) for each class, so that every class counts alike and the mean over samples is 1.

    A class without samples has weight 0.

    >>> balanced_weights(np.array([0, 0, 0, 2]), classes=3)
    (0.666..., 0.0, 2.0)
    """
    count = np.bincount(label, minlength=max(2, classes))
    return tuple(float(len(label) / ((count > 0).sum() * n)) if n else 0.0 for n in count)


def build_classifier(config: ConfigDict, *, classes: int, tokenizer: Any = None, several: bool = False) -> Model:
    """The fusion classifier as pure functions."""
    options = with_vocabulary(config.model.to_dict(), tokenizer, config.input.max_length)
    name = options.pop("name")
    module = models.build_model(name, axis_name=AXIS if several else None, classes=max(2, classes), **options)

    init, apply = pure_functions(module)

    def predict(params, model_state, *inputs, **masks):
        outputs: Any = module.apply({"params": params, **model_state}, *inputs, **masks)
        return outputs["logits"]

    return Model(init=init, apply=apply, predict=predict)
