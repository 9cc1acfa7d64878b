"""Classification from two or three modalities: the model, the objective, and the settings that do not apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, models
from alignment_jax.assembly.flax_modules import pure_functions
from alignment_jax.assembly.modality_checks import with_vocabulary
from alignment_jax.assembly.regularizers import active_regularizers
from alignment_jax.balance import BalanceMethod
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.classification_objective import FUSED, INPUTS, Classification
from alignment_jax.train.experiment import Model
from alignment_jax.train.step import AXIS

MODEL = "fusion_classifier"
CLASS_WEIGHTS = ("none", "balanced")


def is_classifier(model: ConfigDict) -> bool:
    """Whether the section `model` describes a classifier; any other model aligns two modalities."""
    return model.name == MODEL


def head_names(model: ConfigDict) -> tuple[str, ...]:
    """The heads of a classifier: one for each modality, and the fused one."""
    return (*(name for name in INPUTS if model.get(f"encoder_{name}") is not None), FUSED)


def prediction_heads(model: ConfigDict, predict: str) -> tuple[str, ...] | None:
    """The heads that a prediction sums; None for all.

    Args:
      model: the section `model`.
      predict: `classification.predict`.

    Raises:
      ConfigError: the model has no such head.
    """
    if predict == "all":
        return None
    heads = tuple(name.strip() for name in predict.split("+"))
    known = head_names(model)
    for name in heads:
        if name not in known:
            raise ConfigError(
                f"classification.predict is {predict!r}; it must be 'all' or some of {', '.join(known)}, joined by +"
            )
    return heads


def check_classification(config: ConfigDict, split: data.PairSplit, source: data.PairSource) -> None:
    """Raises ConfigError for data without labels or with text made of them, and for methods of alignment."""
    if split.label is None:
        raise ConfigError(
            f"{config.data}: it has no labels; a classifier reads samples:FILE.csv (label and two or three of audio, "
            "image, text), posts:FILE.csv, av:FILE.csv or features:FILE.npz"
        )
    if source.from_label:
        modality = dict(zip(INPUTS, source.modalities, strict=False))[source.from_label[0]]
        other = (
            f"name another field, as in {config.data},{source.from_label[0]}=FIELD"
            if source.name == "tfds"
            else "write posts:FILE.csv (columns image, text, label) or samples:FILE.csv (audio, image, text, label)"
        )
        raise ConfigError(
            f"{config.data}: its {modality} is made from the class, so the input gives the answer away; {other}, or "
            "align images with class names (configs/flickr8k_raw.py) and classify with evaluate --zero_shot"
        )
    if len(split.b) != len(split.a):
        raise ConfigError(f"{config.data}: a classifier needs one item of each modality for each sample")
    modalities, encoders = (2 if split.c is None else 3), len(head_names(config.model)) - 1
    if modalities != encoders:
        raise ConfigError(f"{config.data} has {modalities} modalities, but model has {encoders} encoders")
    of_alignment = {
        "weighting.signal": config.weighting.signal != "fixed",
        "smoothing": bool(config.smoothing.start or config.smoothing.end),
        "temperature.schedule": config.temperature.schedule != "none",
        "margin.schedule": config.margin.schedule != "none",
        "perturb": bool(config.perturb.sigma or config.perturb.fusemix),
        **{f"{name}.weight": True for name in active_regularizers(config)},
        "input.mismatched": bool(config.input.mismatched),
        "optimizer.micro_batch": bool(config.optimizer.micro_batch),
    }
    used = [name for name, on in of_alignment.items() if on]
    if used:
        raise ConfigError(f"{used[0]} applies to contrastive alignment only; reset it for model.name={MODEL}")


def build_classification(
    section: ConfigDict,
    *,
    heads: Sequence[str],
    label: np.ndarray | None,
    classes: int,
    balance: Callable[[Mapping[str, float]], BalanceMethod] = lambda weights: BalanceMethod(),
) -> Classification:
    """The objective with the configured weight of every head and every class.

    Args:
      section: `classification` of the configuration.
      heads: of the model, from `head_names`.
      label: classes of the training samples.
      classes: number of classes, including those that train does not have.
      balance: (head -> weight) -> the method against unequal modalities.

    Raises:
      ConfigError: a weight is negative, or all are 0.
    """
    weights = {name: float(section[f"weight_{name}"]) for name in heads}
    for name, weight in weights.items():
        if weight < 0:
            raise ConfigError(f"classification.weight_{name} must be at least 0, got {weight}")
    if not any(weights.values()):
        raise ConfigError("classification: the weight of every head is 0; set one of classification.weight_* above 0")
    class_weights = None
    if section.class_weights == "balanced":
        assert label is not None
        class_weights = balanced_weights(label, classes=classes)
    return Classification(weights=weights, class_weights=class_weights, balance=balance(weights))


def balanced_weights(label: np.ndarray, *, classes: int) -> tuple[float, ...]:
    """n / (classes that occur * n_c) for each class c: every class counts alike, and the mean over samples is 1.

    A class without samples has weight 0.

    >>> balanced_weights(np.array([0, 0, 0, 2]), classes=3)
    (0.666..., 0.0, 2.0)
    """
    count = np.bincount(label, minlength=max(2, classes))
    return tuple(float(len(label) / ((count > 0).sum() * n)) if n else 0.0 for n in count)


def build_classifier(
    model: ConfigDict, *, classes: int, tokenizer: Any = None, max_length: int = 0, several: bool = False
) -> Model:
    """The fusion classifier as pure functions; see `model_functions.build_model_functions`."""
    options = with_vocabulary(model.to_dict(), tokenizer, max_length)
    name = options.pop("name")
    module = models.build_model(name, axis_name=AXIS if several else None, classes=max(2, classes), **options)

    init, apply = pure_functions(module)

    def predict(params, model_state, *inputs, **masks):
        outputs: Any = module.apply({"params": params, **model_state}, *inputs, **masks)
        return outputs["logits"]

    return Model(init=init, apply=apply, predict=predict)
