"""Evaluating a model on a split: embeddings of both sides, or logits of every head, each compiled once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from alignment_jax import evals
from alignment_jax.core.errors import RunError
from alignment_jax.core.types import Batch, PyTree
from alignment_jax.train.classification import batch_inputs
from alignment_jax.train.experiment import EvaluationSplit, Model


class Evaluator:
    """Embeds splits with the parameters to evaluate, compiled once."""

    def __init__(self, model: Model):
        if model.encode_a is None or model.encode_b is None:
            raise ValueError("model: it has no encode_a and encode_b; a classifier makes no embeddings")
        self._encode = {"a": jax.jit(model.encode_a), "b": jax.jit(model.encode_b)}

    def __call__(self, variables: PyTree, split: EvaluationSplit) -> evals.Embedded:
        a, b = self.side("a", variables, split.items_a()), self.side("b", variables, split.items_b())
        if split.views_a:
            a = evals.mean_direction([a, *(self.side("a", variables, items()) for items in split.views_a)])
        return evals.Embedded(a=a, b=b, b_to_a=split.b_to_a)

    def side(self, side: str, variables: PyTree, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Embeddings [k, d] of the items of side "a" or "b", from padded batches (items, where)."""
        own, encode = jax.tree.map(_local, variables), self._encode[side]
        found = evals.embed_items(lambda items: encode(own["params"], own["model_state"], items), batches)
        if not np.isfinite(found).all():
            # A step can overflow parameters while its own loss and gradient are still finite.
            raise RunError(
                f"an embedding of side {side} is not finite: the parameters have overflowed; training stopped and "
                "the last good checkpoint is kept. Lower optimizer.learning_rate, in another --workdir"
            )
        return found


@dataclasses.dataclass(frozen=True)
class LabelledSplit:
    """A split to classify: its samples in order, in padded batches with labels."""

    batches: Callable[[], Iterator[Batch]]


class Classifier:
    """Logits of every head for splits, with the parameters to evaluate."""

    def __init__(self, model: Model):
        if model.predict is None:
            raise ValueError("model: it has no predict; only a classifier has logits")
        self._predict = jax.jit(model.predict)

    def __call__(self, variables: PyTree, split: LabelledSplit) -> evals.Classified:
        own = jax.tree.map(_local, variables)
        return evals.classify_items(
            lambda batch: self._predict(own["params"], own["model_state"], *batch_inputs(batch)), split.batches()
        )


class Retrieval:
    """(variables, split) -> recalls both ways, and multi-instance retrieval where the split has graded relevancy."""

    def __init__(self, model: Model):
        self._embed = Evaluator(model)

    def __call__(self, variables: PyTree, split: EvaluationSplit) -> dict[str, float]:
        return _retrieved(self._embed(variables, split), split)

    def watched(self, variables: PyTree, split: EvaluationSplit) -> dict[str, float]:
        """The same, and how far apart the embeddings still are: what a run logs of itself on the way."""
        embedded = self._embed(variables, split)
        return _retrieved(embedded, split) | evals.spread(embedded)


def _retrieved(embedded: evals.Embedded, split: EvaluationSplit) -> dict[str, float]:
    graded = {} if split.relevancy is None else evals.multi_instance(embedded, *split.relevancy())
    return {**evals.recall(embedded), **graded}


def retrieval(model: Model) -> Retrieval:
    """(variables, split) -> the metrics of `Retrieval`."""
    return Retrieval(model)


def classification(
    model: Model, *, heads: Sequence[str] | None = None
) -> Callable[[PyTree, LabelledSplit], dict[str, float]]:
    """(variables, split) -> the metrics of `evals.classification` for a prediction from these heads (None: all)."""
    classifier = Classifier(model)
    return lambda variables, split: evals.classification(classifier(variables, split), heads=heads)


def _local(x: jax.Array) -> jax.Array:
    """This process's own copy of a replicated array."""
    return x.addressable_data(0)
