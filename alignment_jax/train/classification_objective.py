"""The classification objective: a weighted sum of the heads' cross-entropies, and the sample scores of BSS."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alignment_jax import sampling
from alignment_jax.balance import BalanceMethod, BalanceTerms, ForwardPass
from alignment_jax.core.masked_reductions import masked_count, masked_mean
from alignment_jax.core.types import Array, Batch, PyTree
from alignment_jax.train.encoder_parameters import encoder_paths, put, take
from alignment_jax.train.objective import Aux, Metrics, global_rows

FUSED = "fused"
INPUTS = ("a", "b", "c")
_KEEP = 1  # folded into the key of a step for `BalanceMethod.keep`


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


def weighted_losses(
    losses: Mapping[str, Array], *, weights: Mapping[str, Any], present: Mapping[str, Array] | None = None
) -> jax.Array:
    """sum_h w_h CE_h of every sample [n], over the heads of its modalities.

    Args:
      losses: head -> [n] cross-entropies.
      weights: head -> factor, one or more.
      present: modality -> bool [n], samples that have it; None or no entry for all.

    >>> has = {"a": jnp.array([True, False])}
    >>> weighted_losses(
    ...     {"a": jnp.ones(2), "fused": jnp.ones(2)}, weights={"a": 1.0, "fused": 2.0}, present=has
    ... ).tolist()
    [3.0, 2.0]
    """
    total: Any = 0.0
    for name, weight in weights.items():
        own = weight * losses[name]
        total += own if present is None or name not in present else jnp.where(present[name], own, 0.0)
    return total


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification from two or three modalities with one head each and a fused one.

    L = mean over the global batch of v_y sum_h w_h CE_h, over the heads of a sample's modalities

    Args:
      weights: head ("a", "b", "c", "fused") -> factor of its cross-entropy; BSS on CREMA-D: 0.9, 0.9 and 0.1 (fused),
        1 for every head elsewhere.
      class_weights: v, the factor of each class; None is 1 for all. Scores of samples do not depend on it.
      balance: a method against unequal modalities.

    Source: BSS (Guan et al., IJCAI 2025), training objective.
    """

    weights: Mapping[str, float]
    class_weights: tuple[float, ...] | None = None
    balance: BalanceMethod = dataclasses.field(default_factory=BalanceMethod)

    def init(self) -> Any:
        """The state of the balancing method; () without one."""
        return self.balance.init()

    @property
    def loss_terms(self) -> int:
        """Two where the balancing method needs the gradients of the fused and of the modalities' losses one by one."""
        return 2 if self.balance.separate else 1

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        method, where, label = self.balance, batch["where"], batch["label"]
        rows = global_rows(where.shape[0], axis_name)
        masks: dict[str, Any] = batch_masks(batch)
        present = {name: masks.get("present", {}).get(name, where) & where for name in INPUTS if name in batch}
        complete = where
        if method.keep is not None:
            kept = method.keep(jax.random.fold_in(key, _KEEP), rows, present)
            # Scores are compared between samples: those of a sample without a modality that it has do not count.
            complete = where & functools.reduce(operator.and_, (kept[name] == has for name, has in present.items()))
            present = dict(kept)
            masks["present"] = present
        options = {"subsets": True} if method.subsets else {}
        inputs = batch_inputs(batch)
        outputs, model_state = apply(
            params, model_state, *inputs, train=True, rows=rows, where=where, key=key, **masks, **options
        )
        outputs = jax.tree.map(lambda x: zero_rows(x, where), outputs)
        logits = outputs["logits"]
        found = measure(outputs, label, weights=self.weights, present=masks.get("present", {}))
        losses = {
            name: optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(own, jnp.float32), label)
            for name, own in logits.items()
        }
        trained = where if method.trained is None else where & method.trained(batch["index"])
        weights: Mapping[str, Any] = self.weights
        if method.head_weights is not None:
            weights = method.head_weights(weights, step, method_state)
        parts = self._loss_parts(losses, label, weights, masks.get("present", {}), trained, axis_name)
        terms = BalanceTerms(method_state)
        if method.terms is not None:
            forward = ForwardPass(
                logits, outputs["features"], losses, label, batch["index"], where, present, trained,
                outputs.get("subsets", {}), step,
            )  # fmt: skip
            terms = method.terms(forward, method_state, axis_name)
        loss = jnp.stack(parts) if method.separate else parts[0] + terms.loss
        metrics = {"loss": jnp.sum(loss), "pairs": masked_count(found["loss"], where, axis_name=axis_name)}
        for name, own in losses.items():
            right = (jnp.argmax(logits[name], axis=-1) == label).astype(jnp.float32)
            there = present.get(name, where)
            metrics[f"loss_{name}"] = masked_mean(own, there, axis_name=axis_name)
            metrics[f"accuracy_{name}"] = 100.0 * masked_mean(right, there, axis_name=axis_name)
        per_sample = {"index": batch["index"], "where": complete, **found}
        after = (terms.state, {**metrics, **terms.metrics}, per_sample, terms.modulation)
        return loss, Aux(model_state, *jax.tree.map(jax.lax.stop_gradient, after))

    def after_gradients(self, gradients: tuple[PyTree, ...], modulation: PyTree, *, key: jax.Array) -> Any:
        """(gradients as the balancing method changes them, its metrics), see `objective.Objective`."""
        total = functools.reduce(lambda x, y: jax.tree.map(jnp.add, x, y), gradients)
        if self.balance.gradients is None:
            return total, {}
        paths = encoder_paths(total, (name for name in self.weights if name != FUSED))
        own = tuple({m: take(tree, path) for m, path in paths.items()} for tree in gradients)
        changed, metrics = self.balance.gradients(own, modulation, key)
        for m, path in paths.items():
            total = put(total, path, changed[m])
        return total, metrics

    def _loss_parts(self, losses, label, weights, present, where, axis_name) -> list[jax.Array]:
        """The loss; with `balance.separate` that of the fused head and that of the others."""
        groups: list[Mapping[str, Any]] = [weights]
        if self.balance.separate:
            fused = {name: weight for name, weight in weights.items() if name == FUSED}
            groups = [fused, {name: weight for name, weight in weights.items() if name != FUSED}]
        found = []
        for group in groups:
            own = weighted_losses(losses, weights=group, present=present)
            if self.class_weights is not None:
                own *= jnp.asarray(self.class_weights, jnp.float32)[label]
            found.append(masked_mean(own, where, axis_name=axis_name))
        return found

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
