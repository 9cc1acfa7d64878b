"""The classification objective: a weighted sum of the heads' cross-entropies, and the sample scores of BSS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alignment_jax import sampling
from alignment_jax.core.masked_reductions import masked_count, masked_mean
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
    """The model's argument for missing modalities: `present`, or nothing where every sample has all of them.

    >>> batch_masks({"a": 1, "b": 2, "has_b": 3}), batch_masks({"a": 1, "b": 2})
    ({'present': {'b': 3}}, {})
    """
    present = {name: batch[f"has_{name}"] for name in INPUTS if f"has_{name}" in batch}
    return {"present": present} if present else {}


def zero_rows(x: Array, where: Array) -> jax.Array:
    """Zeroes padded rows: a NaN there would reach the gradient, because 0 * NaN is NaN."""
    return jnp.where(jnp.reshape(where, (-1,) + (1,) * (x.ndim - 1)), x, 0.0)


def measure(
    outputs: Mapping[str, Mapping[str, Array]],
    label: Array,
    *,
    weights: Mapping[str, float],
    present: Mapping[str, Array] | None = None,
) -> dict[str, jax.Array]:
    """The scores that BSS can order samples by, from one forward pass; constants for differentiation.

    The functions of `alignment_jax.sampling` on the heads' logits and features: `cross_entropy`, `gradient_magnitude`
    with respect to the parameters of all (linear) heads, `prediction_similarity` and `feature_similarity`. The head and
    the pairs of a missing modality are left out, as `present` describes there.

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

    Source: BSS (Guan et al., IJCAI 2025), balance measurer.
    """
    logits, features = (
        {name: jax.lax.stop_gradient(jnp.asarray(value, jnp.float32)) for name, value in outputs[kind].items()}
        for kind in ("logits", "features")
    )
    modalities = [name for name in logits if name != FUSED]

    def of(parts: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
        return [parts.get(name) for name in names]

    own = {"weights": list(weights.values()), "present": of(present or {}, weights)}
    both = {"present": of(present or {}, modalities)}
    found: dict[str, Any] = {
        "loss": sampling.cross_entropy(of(logits, weights), label, **own),
        "gradient": sampling.gradient_magnitude(of(logits, weights), label, features=of(features, weights), **own),
        "prediction_similarity": sampling.prediction_similarity(of(logits, modalities), **both),
    }
    if len({features[name].shape for name in modalities}) == 1:
        found["feature_similarity"] = sampling.feature_similarity(of(features, modalities), **both)
    return found


def sample_loss(
    logits: Mapping[str, Array],
    label: Array,
    *,
    weights: Mapping[str, float],
    present: Mapping[str, Array] | None = None,
) -> jax.Array:
    """sum_h w_h CE_h of every sample [n], over the heads of its modalities.

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


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification from two or three modalities with one head each and a fused one.

    L = mean over the global batch of v_y sum_h w_h CE_h, over the heads of a sample's modalities

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
        """The scores of every row in evaluation mode: no perturbation, no dropout, no change of state."""
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
