"""Evaluates a model on a split: embeddings of both sides, or logits of every head, each compiled once.

Runs that differ only in their seed share one compiled program; their variables are stacked, leaves [seeds, ...].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax import evals
from alignment_jax.core.deprecation import renamed_attributes, renamed_names
from alignment_jax.core.errors import RunError
from alignment_jax.core.normalize import l2_normalize
from alignment_jax.core.types import Array, Batch, PyTree
from alignment_jax.train.classification_objective import batch_inputs, batch_masks
from alignment_jax.train.experiment import EvaluationSplit, Model


def embedded_split(split: EvaluationSplit, a: np.ndarray, b: np.ndarray) -> evals.SplitEmbeddings:
    """A split with its embeddings."""
    return evals.SplitEmbeddings(a, b, split.b_to_a, *split.same)


@renamed_attributes({"side": "embed_side", "of_seeds": "embed_seeds", "side_of_seeds": "embed_side_of_seeds"})
class Embedder:
    """Embeds splits; compiled once."""

    def __init__(self, model: Model):
        if model.encode_a is None or model.encode_b is None:
            raise ValueError("model: encode_a and encode_b are required; a classifier makes no embeddings")
        encode = {"a": model.encode_a, "b": model.encode_b}
        self._encode, self._padding = {side: jax.jit(one) for side, one in encode.items()}, model.padding
        self._measure = jax.jit(_measure_seeds(model))
        self._on_device: dict[int, tuple[EvaluationSplit, tuple[Any, ...]]] = {}
        self._encode_seeds = {side: jax.jit(jax.vmap(one, in_axes=(0, 0, None))) for side, one in encode.items()}

    def __call__(self, variables: PyTree, split: EvaluationSplit) -> evals.SplitEmbeddings:
        a, b = self.embed_side("a", variables, split.items_a()), self.embed_side("b", variables, split.items_b())
        if split.views_a:
            a = evals.mean_direction([a, *(self.embed_side("a", variables, items()) for items in split.views_a)])
        return embedded_split(split, a, b)

    def embed_side(self, side: str, variables: PyTree, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Embeddings [k, d] of the items of side "a" or "b", from padded batches (items, where)."""
        own, encode = jax.tree.map(_local, variables), self._encode[side]
        found = evals.embed_items(
            lambda items: encode(own["params"], own["model_state"], items), batches, padding=self._padding.get(side)
        )
        return _finite(found, side)

    def embed_seeds(self, variables: PyTree, split: EvaluationSplit) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (a [seeds, n, d], b [seeds, m, d]) for stacked variables, in one pass over the items."""
        views = [self.embed_side_of_seeds("a", variables, items()) for items in (split.items_a, *split.views_a)]
        a = evals.mean_direction(views) if split.views_a else views[0]
        return a, self.embed_side_of_seeds("b", variables, split.items_b())

    def measure_seeds(self, variables: PyTree, split: EvaluationSplit) -> list[dict[str, float]]:
        """`evals.metrics_of_seeds` for every seed of stacked variables, in one compiled program over latents.

        Args:
          variables: leaves [seeds, ...].
          split: with `latents`; they stay on the device after the first call.
        """
        assert split.latents is not None
        if id(split) not in self._on_device:
            arrays = (*split.latents(), np.asarray(split.b_to_a, np.int32), split.same)
            self._on_device[id(split)] = split, jax.device_put(arrays, jax.local_devices()[0])
        measured = self._measure(variables["params"], variables["model_state"], *self._on_device[id(split)][1])
        for side, finite in measured["finite"].items():
            if not np.all(finite):
                raise _overflow(side)
        return evals.metrics_of_seeds(measured)

    def embed_side_of_seeds(
        self, side: str, variables: PyTree, batches: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """`embed_side` for every seed of stacked variables: [seeds, k, d]."""
        encode = self._encode_seeds[side]
        parts = [
            np.asarray(encode(variables["params"], variables["model_state"], items), np.float32)[:, where]
            for items, where in batches
        ]
        return _finite(np.concatenate(parts, axis=1), side)


def _measure_seeds(model: Model) -> Callable[..., dict[str, Any]]:
    """(params, model_state, views_a [views, n, d], b [m, d], b_to_a [m], same) -> `evals.evaluate_on_device` per seed.

    Leaves of params, model_state and the result are [seeds, ...]; `same` is that of the split.
    """
    encode_a, encode_b = model.encode_a, model.encode_b
    assert encode_a is not None
    assert encode_b is not None

    def measure_seeds(params: PyTree, model_state: PyTree, views_a: Array, b: Array, b_to_a: Array, same: PyTree):
        def one(variables: tuple[PyTree, PyTree]):
            views = jnp.stack([encode_a(*variables, view).astype(jnp.float32) for view in views_a])
            a = views[0] if len(views) == 1 else l2_normalize(jnp.sum(views, axis=0))
            return evals.evaluate_on_device(a, encode_b(*variables, b).astype(jnp.float32), b_to_a, *same)

        return jax.lax.map(one, (params, model_state))

    return measure_seeds


def _finite(found: np.ndarray, side: str) -> np.ndarray:
    if not np.isfinite(found).all():
        raise _overflow(side)
    return found


def _overflow(side: str) -> RunError:
    # A step can overflow parameters while its own loss and gradient are still finite.
    return RunError(
        f"an embedding of side {side} is not finite because the parameters have overflowed; training stopped and "
        "the last good checkpoint is kept. Lower optimizer.learning_rate, in another --workdir"
    )


@dataclasses.dataclass(frozen=True)
class LabelledSplit:
    """A split to classify: its samples in order, in padded batches with labels."""

    batches: Callable[[], Iterator[Batch]]


class Classifier:
    """Logits of every head for splits; compiled once."""

    def __init__(self, model: Model):
        if model.predict is None:
            raise ValueError("model: predict is required; only a classifier has logits")
        self._predict = jax.jit(model.predict)

    def __call__(self, variables: PyTree, split: LabelledSplit) -> evals.SplitLogits:
        own = jax.tree.map(_local, variables)
        return evals.classify_items(
            lambda batch: self._predict(own["params"], own["model_state"], *batch_inputs(batch), **batch_masks(batch)),
            split.batches(),
        )


class RetrievalEvaluation:
    """(variables, split) -> recalls in both directions, and multi-instance metrics where the split has relevancy.

    Attributes:
      embed: the model's `Embedder`.
    """

    def __init__(self, model: Model):
        self.embed = Embedder(model)

    def __call__(self, variables: PyTree, split: EvaluationSplit) -> dict[str, float]:
        return self.measure(self.embed(variables, split), split)

    def measure(self, embedded: evals.SplitEmbeddings, split: EvaluationSplit) -> dict[str, float]:
        """The metrics of an embedded split."""
        graded = {} if split.relevancy is None else evals.multi_instance_metrics(embedded, *split.relevancy())
        return {**evals.recall_metrics(embedded), **graded}

    def evaluate_for_log(self, variables: PyTree, split: EvaluationSplit, last: bool = False) -> dict[str, float]:
        """The metrics and the variability of the embeddings.

        Args:
          variables: {"params", "model_state"}.
          split: to evaluate.
          last: add the effective rank, at the last evaluation of a run.
        """
        if _measured_on_device(split, last):
            return self.embed.measure_seeds(jax.tree.map(lambda x: _local(x)[None], variables), split)[0]
        return self._log_metrics(self.embed(variables, split), split, last)

    def evaluate_seeds_for_log(
        self, variables: PyTree, split: EvaluationSplit, last: bool = False
    ) -> list[dict[str, float]]:
        """`evaluate_for_log` for every seed of stacked variables."""
        if _measured_on_device(split, last):
            return self.embed.measure_seeds(variables, split)
        a, b = self.embed.embed_seeds(variables, split)
        each = [embedded_split(split, one, other) for one, other in zip(a, b, strict=True)]
        return [self._log_metrics(embedded, split, last) for embedded in each]

    def _log_metrics(self, embedded: evals.SplitEmbeddings, split: EvaluationSplit, last: bool) -> dict[str, float]:
        found = self.measure(embedded, split) | evals.collapse_metrics(embedded)
        if last:
            found |= {f"effective_rank_{side}": evals.effective_rank(getattr(embedded, side)) for side in ("a", "b")}
        return found


def _measured_on_device(split: EvaluationSplit, last: bool) -> bool:
    return split.latents is not None and split.relevancy is None and not last


def embedder_of(evaluate: Callable[..., dict[str, float]]) -> Embedder:
    """The `Embedder` of a retrieval evaluation.

    Raises:
      ValueError: `evaluate` is no retrieval evaluation.
    """
    if not isinstance(evaluate, RetrievalEvaluation):
        raise ValueError("evaluate: a RetrievalEvaluation is required; a classifier makes no embeddings")
    return evaluate.embed


class ClassificationEvaluation:
    """(variables, split) -> the metrics of `evals.classification_metrics`.

    Args:
      model: with `predict`.
      heads: predict from the sum of these heads; None for all.
    """

    def __init__(self, model: Model, *, heads: Sequence[str] | None = None):
        self._classify, self._heads = Classifier(model), heads

    def __call__(self, variables: PyTree, split: LabelledSplit) -> dict[str, float]:
        return evals.classification_metrics(self._classify(variables, split), heads=self._heads)


def _local(x: jax.Array) -> jax.Array:
    """This process's copy of a replicated array."""
    return x.addressable_data(0)


__getattr__ = renamed_names(
    __name__,
    {
        "Evaluator": "Embedder",
        "evaluator_of": "embedder_of",
        "Retrieval": "RetrievalEvaluation",
        "retrieval": "RetrievalEvaluation",
        "classification": "ClassificationEvaluation",
    },
)
