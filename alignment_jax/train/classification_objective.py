"""The classification objective: a weighted sum of the heads' cross-entropies, and what BSS measures of every sample."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alignment_jax.core.masked_reductions import masked_count, masked_mean
from alignment_jax.core.normalize import l2_normalize
from alignment_jax.core.types import Array, Batch
from alignment_jax.train.objective import Aux, Metrics, global_rows

FUSED = "fused"
INPUTS = ("a", "b", "c")


def batch_inputs(batch: Batch) -> tuple[Array, ...]:
    """The modalities of a batch, two or three.

    >>> batch_inputs({"a": 1, "b": 2, "index": 0, "where": True})
    (1, 2)
    """
    return tuple(batch[name] for name in INPUTS if name in batch)


def batch_masks(batch: Batch) -> dict[str, dict[str, Array]]:
    """What a model is told of missing modalities: `present`, or nothing where every sample has all of them.

    >>> batch_masks({"a": 1, "b": 2, "has_b": 3}), batch_masks({"a": 1, "b": 2})
    ({'present': {'b': 3}}, {})
    """
    present = {name: batch[f"has_{name}"] for name in INPUTS if f"has_{name}" in batch}
    return {"present": present} if present else {}


def zero_rows(x: Array, where: Array) -> jax.Array:
    """Zeroes padded rows: a NaN there must reach neither a value nor, times a zero cotangent, a gradient."""
    return jnp.where(jnp.reshape(where, (-1,) + (1,) * (x.ndim - 1)), x, 0.0)


def measure(
    outputs: Mapping[str, Mapping[str, Array]],
    label: Array,
    *,
    weights: Mapping[str, float],
    present: Mapping[str, Array] | None = None,
) -> dict[str, jax.Array]:
    """Everything that BSS may order samples by, from one forward pass.

    loss_i = sum_h w_h CE_h(i); gradient_i = norm of its gradient with respect to the parameters of all (linear) heads,
    sqrt(sum_h w_h^2 |softmax(logits_h) - onehot|^2 (1 + |features_h|^2)); prediction and feature similarity: cosine of
    the modalities' softmax outputs and of their features, mean over pairs of modalities.

    Where a sample lacks a modality, its head and its pairs are left out of all of them. Loss and gradient are then
    scaled to the weight of all heads, so that such a sample is not easier for having fewer; without a pair,
    similarities are 0.

    Args:
      outputs: {"logits": {head: [n, c]}, "features": {head: [n, width]}}, the heads a, b[, c] and "fused".
      label: [n] integers in [0, c).
      weights: head -> factor of its cross-entropy.
      present: modality -> bool [n], which samples have it; None or no entry for all.

    Returns:
      "loss", "gradient", "prediction_similarity" and, where the modalities' features have one width,
      "feature_similarity"; each float32 [n].

    >>> logits = {name: jnp.array([[2.0, 0.0]]) for name in ("a", "b", "fused")}
    >>> features = {"a": jnp.ones((1, 3)), "b": jnp.ones((1, 3)), "fused": jnp.ones((1, 6))}
    >>> weights = {"a": 1.0, "b": 1.0, "fused": 0.0}
    >>> found = measure({"logits": logits, "features": features}, jnp.array([0]), weights=weights)
    >>> {name: round(float(value[0]), 3) for name, value in found.items()}
    {'loss': 0.254, 'gradient': 0.477, 'prediction_similarity': 1.0, 'feature_similarity': 1.0}

    Source: BSS (Guan et al., IJCAI 2025), balance measurer. The NumPy forms in `alignment_jax.sampling` are the same.
    """
    logits = {name: jnp.asarray(value, jnp.float32) for name, value in outputs["logits"].items()}
    features = {name: jnp.asarray(value, jnp.float32) for name, value in outputs["features"].items()}
    has = {name: jnp.asarray(mask, jnp.float32) for name, mask in (present or {}).items()}
    squared = jnp.zeros(label.shape, jnp.float32)
    for name, weight in weights.items():
        error = jax.nn.softmax(logits[name]) - jax.nn.one_hot(label, logits[name].shape[-1])
        inputs = 1.0 + jnp.sum(jnp.square(features[name]), axis=-1)
        squared += weight**2 * has.get(name, 1.0) * jnp.sum(jnp.square(error), axis=-1) * inputs
    squared = squared / _share({name: weight**2 for name, weight in weights.items()}, has)
    modalities = [name for name in logits if name != FUSED]
    found = {
        "loss": sample_loss(logits, label, weights=weights, present=present) / _share(weights, has),
        # A sample without error has no gradient, and the root no derivative: never differentiated, but still finite.
        "gradient": jnp.sqrt(jax.lax.stop_gradient(squared)),
        "prediction_similarity": _mean_cosine({name: jax.nn.softmax(logits[name]) for name in modalities}, has),
    }
    if len({features[name].shape for name in modalities}) == 1:
        found["feature_similarity"] = _mean_cosine({name: features[name] for name in modalities}, has)
    return found


def sample_loss(
    logits: Mapping[str, Array],
    label: Array,
    *,
    weights: Mapping[str, float],
    present: Mapping[str, Array] | None = None,
) -> jax.Array:
    """sum_h w_h CE_h of every sample [n], over the heads of the modalities that it has.

    >>> logits = {"a": jnp.zeros((2, 2)), "fused": jnp.zeros((2, 2))}
    >>> has = {"a": jnp.array([True, False])}
    >>> sample_loss(logits, jnp.array([0, 1]), weights={"a": 1.0, "fused": 1.0}, present=has).round(3).tolist()
    [1.386..., 0.693...]
    """
    loss = jnp.zeros(label.shape, jnp.float32)
    for name, weight in weights.items():
        own = weight * optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits[name], jnp.float32), label)
        loss += own if present is None or name not in present else jnp.where(present[name], own, 0.0)
    return loss


def _share(weights: Mapping[str, float], has: Mapping[str, jax.Array]) -> Any:
    """The weight of the heads that each sample has, as a share of all; 1 where that is none, so that it divides."""
    if not has:
        return 1.0
    there = sum(weight * has.get(name, 1.0) for name, weight in weights.items()) / sum(weights.values())
    return jnp.where(there > 0, there, 1.0)


def _mean_cosine(parts: Mapping[str, jax.Array], has: Mapping[str, jax.Array]) -> jax.Array:
    units = {name: l2_normalize(part) for name, part in parts.items()}
    total: Any = 0.0
    count: Any = 0.0
    for one, other in itertools.combinations(units, 2):
        both = has.get(one, 1.0) * has.get(other, 1.0)
        total += both * jnp.sum(units[one] * units[other], axis=-1)
        count += both
    return jnp.clip(total / jnp.maximum(count, 1.0), -1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification from two or three modalities with one head each and a fused one.

    L = mean over the global batch of v_y sum_h w_h CE_h, over the heads of the modalities that a sample has

    Args:
      weights: head ("a", "b", "c", "fused") -> factor of its cross-entropy; BSS on CREMA-D: 0.9, 0.9 and 0.1 (fused),
        1 for every head elsewhere.
      class_weights: v, the factor of each class; None is 1 for all. Scores of samples do not depend on it.

    Source: BSS (Guan et al., IJCAI 2025), training objective.
    """

    weights: Mapping[str, float]
    class_weights: tuple[float, ...] | None = None

    def init(self) -> Any:
        """No state is carried from step to step."""
        return ()

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        where, label, masks = batch["where"], batch["label"], batch_masks(batch)
        outputs, model_state = apply(
            params,
            model_state,
            *batch_inputs(batch),
            train=True,
            rows=global_rows(where.shape[0], axis_name),
            where=where,
            key=key,
            **masks,
        )
        outputs = jax.tree.map(lambda x: zero_rows(x, where), outputs)
        present = masks.get("present", {})
        found = measure(outputs, label, weights=self.weights, present=present)
        own_loss = sample_loss(outputs["logits"], label, weights=self.weights, present=present)
        if self.class_weights is not None:
            own_loss *= jnp.asarray(self.class_weights, jnp.float32)[label]
        loss = masked_mean(own_loss, where, axis_name=axis_name)
        metrics = {"loss": loss, "pairs": masked_count(found["loss"], where, axis_name=axis_name)}
        for name, logits in outputs["logits"].items():
            own = optax.softmax_cross_entropy_with_integer_labels(logits, label)
            right = (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)
            there = where & present[name] if name in present else where
            metrics[f"loss_{name}"] = masked_mean(own, there, axis_name=axis_name)
            metrics[f"accuracy_{name}"] = 100.0 * masked_mean(right, there, axis_name=axis_name)
        per_sample = {"index": batch["index"], "where": where, **found}
        stopped = jax.tree.map(jax.lax.stop_gradient, (metrics, per_sample))
        return loss, Aux(model_state, method_state, *stopped)

    def score(self, apply, params, model_state, batch, *, step, axis_name) -> Metrics:
        """What is measured of every row by the model as it is: nothing perturbed or dropped, no state changed."""
        del step
        where, masks = batch["where"], batch_masks(batch)
        outputs, _ = apply(
            params,
            model_state,
            *batch_inputs(batch),
            train=False,
            rows=global_rows(where.shape[0], axis_name),
            where=where,
            key=None,
            **masks,
        )
        found = measure(outputs, batch["label"], weights=self.weights, **masks)
        return {"index": batch["index"], "where": where, **found}
