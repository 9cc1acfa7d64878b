"""The classification objective: a weighted sum of the heads' cross-entropies, and what BSS measures of every sample."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alignment_jax.core.normalize import l2_normalize
from alignment_jax.core.reduce import masked_count, masked_mean
from alignment_jax.core.types import Array, Batch
from alignment_jax.train.objective import Metrics, Outcome, global_rows

FUSED = "fused"
INPUTS = ("a", "b", "c")


def batch_inputs(batch: Batch) -> tuple[Array, ...]:
    """The modalities of a batch, two or three.

    >>> batch_inputs({"a": 1, "b": 2, "index": 0, "where": True})
    (1, 2)
    """
    return tuple(batch[name] for name in INPUTS if name in batch)


def zero_rows(x: Array, where: Array) -> jax.Array:
    """Zeroes padded rows: a NaN there must reach neither a value nor, times a zero cotangent, a gradient."""
    return jnp.where(jnp.reshape(where, (-1,) + (1,) * (x.ndim - 1)), x, 0.0)


def measure(
    outputs: Mapping[str, Mapping[str, Array]], label: Array, *, weights: Mapping[str, float]
) -> dict[str, jax.Array]:
    """Everything that BSS may order samples by, from one forward pass.

    loss_i = sum_h w_h CE_h(i); gradient_i = norm of its gradient with respect to the parameters of all (linear) heads,
    sqrt(sum_h w_h^2 |softmax(logits_h) - onehot|^2 (1 + |features_h|^2)); prediction and feature similarity: cosine of
    the modalities' softmax outputs and of their features, mean over pairs of modalities.

    Args:
      outputs: {"logits": {head: [n, c]}, "features": {head: [n, width]}}, the heads a, b[, c] and "fused".
      label: [n] integers in [0, c).
      weights: head -> factor of its cross-entropy.

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
    loss = squared = jnp.zeros(label.shape, jnp.float32)
    for name, weight in weights.items():
        loss += weight * optax.softmax_cross_entropy_with_integer_labels(logits[name], label)
        error = jax.nn.softmax(logits[name]) - jax.nn.one_hot(label, logits[name].shape[-1])
        inputs = 1.0 + jnp.sum(jnp.square(features[name]), axis=-1)
        squared += weight**2 * jnp.sum(jnp.square(error), axis=-1) * inputs
    modalities = [name for name in logits if name != FUSED]
    found = {
        "loss": loss,
        # A sample without error has no gradient, and the root no derivative: never differentiated, but still finite.
        "gradient": jnp.sqrt(jax.lax.stop_gradient(squared)),
        "prediction_similarity": _mean_cosine([jax.nn.softmax(logits[name]) for name in modalities]),
    }
    if len({features[name].shape for name in modalities}) == 1:
        found["feature_similarity"] = _mean_cosine([features[name] for name in modalities])
    return found


def _mean_cosine(parts: list[jax.Array]) -> jax.Array:
    units = [l2_normalize(part) for part in parts]
    cosines = [jnp.sum(u * v, axis=-1) for u, v in itertools.combinations(units, 2)]
    return jnp.clip(sum(cosines[1:], start=cosines[0]) / len(cosines), -1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification from two or three modalities with one head each and a fused one.

    L = mean over the global batch of sum_h w_h CE_h

    Args:
      weights: head ("a", "b", "c", "fused") -> factor of its cross-entropy; BSS on CREMA-D: 0.9, 0.9 and 0.1 (fused),
        1 for every head elsewhere.

    Source: BSS (Guan et al., IJCAI 2025), training objective.
    """

    weights: Mapping[str, float]

    def init(self) -> Any:
        """No state is carried from step to step."""
        return ()

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        where, label = batch["where"], batch["label"]
        outputs, model_state = apply(
            params,
            model_state,
            *batch_inputs(batch),
            train=True,
            rows=global_rows(where.shape[0], axis_name),
            where=where,
            key=key,
        )
        outputs = jax.tree.map(lambda x: zero_rows(x, where), outputs)
        found = measure(outputs, label, weights=self.weights)
        loss = masked_mean(found["loss"], where, axis_name=axis_name)
        metrics = {"loss": loss, "pairs": masked_count(found["loss"], where, axis_name=axis_name)}
        for name, logits in outputs["logits"].items():
            own = optax.softmax_cross_entropy_with_integer_labels(logits, label)
            right = (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)
            metrics[f"loss_{name}"] = masked_mean(own, where, axis_name=axis_name)
            metrics[f"accuracy_{name}"] = 100.0 * masked_mean(right, where, axis_name=axis_name)
        per_sample = {"index": batch["index"], "where": where, **found}
        stopped = jax.tree.map(jax.lax.stop_gradient, (metrics, per_sample))
        return loss, Outcome(model_state, method_state, *stopped)

    def score(self, apply, params, model_state, batch, *, step, axis_name) -> Metrics:
        """What is measured of every row by the model as it is: nothing perturbed or dropped, no state changed."""
        del step
        where = batch["where"]
        outputs, _ = apply(
            params,
            model_state,
            *batch_inputs(batch),
            train=False,
            rows=global_rows(where.shape[0], axis_name),
            where=where,
            key=None,
        )
        return {"index": batch["index"], "where": where, **measure(outputs, batch["label"], weights=self.weights)}
