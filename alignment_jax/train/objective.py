"""The contrastive objective: perturb → encode → temperature → loss → direction weights → regularizers → one scalar.

Each method is an optional function at its place in this chain, so methods combine freely. The model is its `apply`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from alignment_jax import losses
from alignment_jax.core.deprecation import renamed_attributes, renamed_names
from alignment_jax.core.masked_reductions import masked_count, masked_mean
from alignment_jax.core.types import Array, Batch, PyTree
from alignment_jax.weighting import DirectionStatistics, LossStatistics, loss_statistics

Metrics = dict[str, jax.Array]
# (key, batch, axis_name) -> batch; the key is the same on every device.
Perturb = Callable[[jax.Array, Batch, str | None], Batch]
# (step, cluster sizes [n] or None, model outputs) -> scalar or [n]
PerAnchor = Callable[[jax.Array, Array | None, Mapping[str, Array]], Array]
# (outputs, anchor_scale, smoothing, where, axis_name, temperature) -> (loss_ab, loss_ba or None, statistics or None).
# outputs: the model's, and `id_a`, `id_b` of the batch where present. anchor_scale: temperature or margin, scalar or
# [n]. With a temperature the same pass over S also gives the statistics of both directions.
PairLoss = Callable[
    [Mapping[str, Array], Array, Array, Array, str | None, Array | None],
    tuple[jax.Array, jax.Array | None, DirectionStatistics | None],
]


# (a, b) -> the model's outputs for other items than the batch, as many of a as of b.
EncodeOthers = Callable[[Array, Array], Mapping[str, Array]]
# (outputs, perturbed batch, step, axis_name, encode) -> (term of the global loss, metrics). Where `perturb` adds noise,
# the batch also holds the latents without noise, `latents_a` and `latents_b`.
Regularizer = Callable[[Mapping[str, Array], Batch, jax.Array, str | None, EncodeOthers], tuple[jax.Array, Metrics]]


@dataclasses.dataclass(frozen=True)
class Aux:
    """Auxiliary output beside the loss. `per_sample` is the local shard; the rest is global.

    modulation: read by `after_gradients` of an objective that has it.
    """

    model_state: PyTree
    method_state: PyTree
    metrics: Metrics
    per_sample: Metrics
    modulation: PyTree = ()


jax.tree_util.register_dataclass(Aux)


class Objective(Protocol):
    """A differentiable training objective: global under `axis_name`, state in, state out.

    An objective may change the gradients. It then has two more attributes:

    loss_terms: int; above 1 it returns a vector of so many losses, whose gradients are taken one by one, each in a
      backward pass of its own. The loss is their sum.
    after_gradients: (one tree of gradients of the global batch for each term, modulation, key) -> (gradients, metrics).
      It sees whole arrays, and its result is what the optimizer gets.
    """

    def init(self) -> PyTree:
        """The state carried from step to step, arrays only: checkpoints hold it."""

    def __call__(
        self,
        apply: Callable[..., Any],
        params: PyTree,
        model_state: PyTree,
        method_state: PyTree,
        batch: Batch,
        *,
        step: jax.Array,
        key: jax.Array,
        axis_name: str | None,
    ) -> tuple[jax.Array, Aux]:
        """(loss of the global batch, auxiliary output)."""


def loss_terms(objective: Objective) -> int:
    """The losses that an objective returns, see `Objective`."""
    return getattr(objective, "loss_terms", 1)


def after_gradients(
    objective: Objective, gradients: tuple[PyTree, ...], modulation: PyTree, key: jax.Array
) -> tuple[PyTree, Metrics]:
    """The gradients that the optimizer gets, and metrics of their change, see `Objective`."""
    own = getattr(objective, "after_gradients", None)
    if own is None:
        (only,) = gradients
        return only, {}
    return own(gradients, modulation, key=key)


def global_rows(n: int, axis_name: str | None) -> jax.Array:
    """Positions [n] int32 of the local rows in the global batch. Keys folded with them do not depend on sharding.

    >>> global_rows(3, None)
    Array([0, 1, 2], dtype=int32)
    """
    rows = jnp.arange(n, dtype=jnp.int32)
    return rows if axis_name is None else rows + jax.lax.axis_index(axis_name).astype(jnp.int32) * n


def model_temperature(step: jax.Array, cluster_size: Array | None, outputs: Mapping[str, Array]) -> Array:
    """The model's temperature, learned or fixed."""
    del step, cluster_size
    return outputs["temperature"]


def infonce_pair_loss(similarity: Any = "auto", duplicates: str = "mask") -> PairLoss:
    """`losses.infonce` with the anchor scale as temperature, also that of the statistics."""

    def pair_loss(outputs, anchor_scale, smoothing, where, axis_name, temperature):
        common = dict(where=where, axis_name=axis_name, similarity=similarity, **_ids(outputs, duplicates))
        common |= dict(temperature=anchor_scale, smoothing=smoothing)
        if temperature is None:
            return *losses.infonce(outputs["a"], outputs["b"], **common), None
        return losses.infonce_with_statistics(outputs["a"], outputs["b"], **common)

    return pair_loss


def max_margin_pair_loss(similarity: Any = "auto", duplicates: str = "mask") -> PairLoss:
    """`losses.max_margin` with the anchor scale as margin; it has no targets to smooth."""

    def pair_loss(outputs, anchor_scale, smoothing, where, axis_name, temperature):
        del smoothing
        common = dict(where=where, axis_name=axis_name, similarity=similarity, **_ids(outputs, duplicates))
        common |= dict(margin=anchor_scale)
        if temperature is None:
            return *losses.max_margin(outputs["a"], outputs["b"], **common), None
        return losses.max_margin_with_statistics(outputs["a"], outputs["b"], temperature=temperature, **common)

    return pair_loss


def sigmoid_pair_loss(similarity: Any = "auto", duplicates: str = "mask") -> PairLoss:
    """`losses.sigmoid` with logit scale 1 / temperature and the model's bias; one loss for both directions."""

    def pair_loss(outputs, anchor_scale, smoothing, where, axis_name, temperature):
        del smoothing, temperature
        loss = losses.sigmoid(
            outputs["a"],
            outputs["b"],
            scale=1.0 / anchor_scale,
            bias=outputs["bias"],
            where=where,
            axis_name=axis_name,
            similarity=similarity,
            **_ids(outputs, duplicates),
        )
        return loss, None, None

    return pair_loss


def _ids(outputs: Mapping[str, Array], duplicates: str) -> dict[str, Any]:
    return dict(ids_a=outputs.get("id_a"), ids_b=outputs.get("id_b"), duplicates=duplicates)


@renamed_attributes({"strength": "anchor_scale", "reported": "extra_metrics"})
@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Contrastive alignment with any combination of the methods.

    Args:
      pair_loss: per-anchor losses of both directions, and their statistics where `weighting` needs them.
      anchor_scale: the anchor's temperature (InfoNCE, sigmoid) or margin (max-margin), scalar or [n].
      temperature: temperature of the statistics' entropy where the loss has none (max-margin); by default the model's.
      smoothing: step -> label smoothing over all candidates, in [0, 1).
      perturb: changes the batch before the model; None for no perturbation.
      perturb_features: `perturb` changes the outputs of the towers instead, in place of the batch's items.
      weighting: (init, update) of `weighting.directional`; None for the fixed weights (1, 1).
      weigh_by_loss: `weighting` reads `weighting.loss_statistics`, not the statistics of `pair_loss`.
      regularizers: terms that are added to the loss.
      extra_metrics: step -> more scalars to log, the noise level for example.
    """

    pair_loss: PairLoss
    anchor_scale: PerAnchor
    temperature: PerAnchor = model_temperature
    smoothing: Callable[[jax.Array], Array] = lambda step: jnp.float32(0.0)
    perturb: Perturb | None = None
    perturb_features: bool = False
    weighting: tuple[Callable[[], PyTree], Callable[..., Any]] | None = None
    weigh_by_loss: bool = False
    regularizers: tuple[Regularizer, ...] = ()
    extra_metrics: Callable[[jax.Array], Metrics] = lambda step: {}

    def init(self) -> PyTree:
        return () if self.weighting is None else self.weighting[0]()

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        dropout_key, perturb_key = jax.random.split(key)
        options: dict[str, Any] = {}
        perturbed, perturb = batch, self.perturb
        if perturb is not None and self.perturb_features:

            def perturb_features(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
                nonlocal perturbed
                perturbed = perturb(perturb_key, {**batch, "a": a, "b": b}, axis_name)
                return perturbed["a"], perturbed["b"]

            options["perturb"] = perturb_features
        elif perturb is not None:
            batch = perturbed = perturb(perturb_key, batch, axis_name)
        state_before = model_state
        outputs, model_state = _encode(
            apply, params, model_state, batch, train=True, key=dropout_key, axis_name=axis_name, **options
        )
        batch = perturbed
        outputs = {**outputs, **_batch_ids(batch)}
        where, cluster_size = batch["where"], batch.get("stat")
        anchor_scale = self.anchor_scale(step, cluster_size, outputs)
        temperature = self.temperature(step, cluster_size, outputs)
        smoothing = self.smoothing(step)
        weighed = None if self.weighting is None or self.weigh_by_loss else temperature
        loss_ab, loss_ba, of_similarity = self.pair_loss(outputs, anchor_scale, smoothing, where, axis_name, weighed)
        statistics: DirectionStatistics | LossStatistics | None = of_similarity
        if self.weigh_by_loss and loss_ba is not None:
            statistics = loss_statistics(loss_ab, loss_ba, where=where, axis_name=axis_name)

        weights = (jnp.float32(1.0), jnp.float32(1.0))
        if self.weighting is not None and statistics is not None:
            weights, method_state = self.weighting[1](statistics, method_state)
        loss = losses.reduce(loss_ab, loss_ba, weights=weights, where=where, axis_name=axis_name)

        def encode_others(a: Array, b: Array) -> Mapping[str, Array]:
            others = {"a": a, "b": b, "where": jnp.ones(a.shape[0], bool)}
            key = jax.random.fold_in(dropout_key, 1)  # another dropout than in the batch
            return _encode(apply, params, state_before, others, train=True, key=key, axis_name=axis_name)[0]

        regularized: Metrics = {}
        for regularizer in self.regularizers:
            term, values = regularizer(outputs, batch, step, axis_name, encode_others)
            loss, regularized = loss + term, regularized | values

        positive = jnp.sum(outputs["a"] * outputs["b"], axis=-1)
        per_pair = loss_ab if loss_ba is None else 0.5 * (loss_ab + loss_ba)
        metrics = {
            "loss": loss,
            "loss_ab": masked_mean(loss_ab, where, axis_name=axis_name),
            "weight_ab": weights[0],
            "weight_ba": weights[1],
            "smoothing": jnp.asarray(smoothing, jnp.float32),
            "positive_similarity": masked_mean(positive, where, axis_name=axis_name),
            "pairs": masked_count(positive, where, axis_name=axis_name),
            **_mean_min_max("temperature", temperature, where, axis_name),
            **self.extra_metrics(step),
            **regularized,
        }
        if loss_ba is not None:
            metrics["loss_ba"] = masked_mean(loss_ba, where, axis_name=axis_name)
        if self.anchor_scale is not self.temperature:
            metrics |= _mean_min_max("margin", anchor_scale, where, axis_name)
        per_sample = {"index": batch["index"], "where": where, "loss": per_pair, "similarity": positive}
        stopped = jax.tree.map(jax.lax.stop_gradient, (metrics, per_sample))
        return loss, Aux(model_state, method_state, *stopped)

    def score(self, apply, params, model_state, batch, *, step, axis_name) -> Metrics:
        """Loss and similarity of every pair with the model in evaluation mode, without perturbation and smoothing."""
        where = batch["where"]
        outputs, _ = _encode(apply, params, model_state, batch, train=False, key=None, axis_name=axis_name)
        anchor_scale = self.anchor_scale(step, batch.get("stat"), outputs)
        loss_ab, loss_ba, _ = self.pair_loss(outputs, anchor_scale, jnp.float32(0.0), where, axis_name, None)
        per_pair = loss_ab if loss_ba is None else 0.5 * (loss_ab + loss_ba)
        similarity = jnp.sum(outputs["a"] * outputs["b"], axis=-1)
        return {"index": batch["index"], "where": where, "loss": per_pair, "similarity": similarity}


def _encode(
    apply, params, model_state, batch: Batch, *, train: bool, key: jax.Array | None, axis_name: str | None, **options
):
    """(outputs, model_state) of a batch; the outputs include its ids."""
    outputs, model_state = apply(
        params,
        model_state,
        batch["a"],
        batch["b"],
        train=train,
        rows=global_rows(batch["where"].shape[0], axis_name),
        where=batch["where"],
        key=key,
        **options,
    )
    return {**outputs, **_batch_ids(batch)}, model_state


def _batch_ids(batch: Batch) -> Batch:
    return {side: batch[side] for side in ("id_a", "id_b") if side in batch}


def _mean_min_max(name: str, value: Array, where: Array, axis_name: str | None) -> Metrics:
    """Mean, minimum and maximum of a scalar or per-anchor value over the valid rows."""
    value = jnp.asarray(value, jnp.float32)
    if value.ndim == 0:
        return {f"{name}_mean": value, f"{name}_min": value, f"{name}_max": value}
    low = jnp.min(jnp.where(where, value, jnp.inf))
    high = jnp.max(jnp.where(where, value, -jnp.inf))
    if axis_name is not None:
        low, high = jax.lax.pmin(low, axis_name), jax.lax.pmax(high, axis_name)
    return {f"{name}_mean": masked_mean(value, where, axis_name=axis_name), f"{name}_min": low, f"{name}_max": high}


__getattr__ = renamed_names(
    __name__,
    {
        "Outcome": "Aux",
        "infonce_loss": "infonce_pair_loss",
        "max_margin_loss": "max_margin_pair_loss",
        "sigmoid_loss": "sigmoid_pair_loss",
    },
)
