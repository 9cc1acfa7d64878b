"""Evaluates a model on a split: embeddings of both sides, or logits of every head.

The batches of a split are divided over the devices of this process, and over all processes where `everywhere` is true:
every process must then make the same call, and gets the whole result. Runs that differ only in their seed share one
compiled program; their variables are stacked, leaves [seeds, ...].
"""

from __future__ import annotations

import dataclasses
import itertools
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
from alignment_jax.train import processes
from alignment_jax.train.batch_parallel import BatchParallel, local_copy
from alignment_jax.train.classification_objective import batch_inputs, batch_masks
from alignment_jax.train.experiment import EvaluationSplit, Model


def embedded_split(
    split: EvaluationSplit, a: np.ndarray, b: np.ndarray, *, devices: Sequence[jax.Device] | None = None
) -> evals.SplitEmbeddings:
    """A split with its embeddings; `devices` share the work of its ranks."""
    return evals.SplitEmbeddings(a, b, split.b_to_a, *split.same, devices=None if devices is None else tuple(devices))


@renamed_attributes({"side": "embed_side", "of_seeds": "embed_seeds", "side_of_seeds": "embed_side_of_seeds"})
class Embedder:
    """Embeds splits.

    Args:
      model: with both encoders.
      devices: over all processes of the run; None for those of this process.
    """

    def __init__(self, model: Model, *, devices: Sequence[jax.Device] | None = None):
        if model.encode_a is None or model.encode_b is None:
            raise ValueError("model: encode_a and encode_b are required; a classifier makes no embeddings")
        encode = {"a": model.encode_a, "b": model.encode_b}
        self._devices, self._local = _all_and_local(devices)
        self._encode = {side: BatchParallel(one, self._local) for side, one in encode.items()}
        self._padding = model.padding
        self._measure = jax.jit(measure_seeds_of(model))
        self._on_device: dict[int, tuple[EvaluationSplit, tuple[Any, ...]]] = {}
        # The rows come first, so that each device can embed a batch of its own.
        of_seeds = {side: jax.vmap(one, in_axes=(0, 0, None), out_axes=1) for side, one in encode.items()}
        self._encode_seeds = {side: BatchParallel(one, self._local) for side, one in of_seeds.items()}

    def __call__(self, variables: PyTree, split: EvaluationSplit, *, everywhere: bool = False) -> evals.SplitEmbeddings:
        views = [
            self.embed_all("a", variables, items, everywhere=everywhere) for items in (split.items_a, *split.views_a)
        ]
        a = evals.mean_direction(views) if split.views_a else views[0]
        b = self.embed_all("b", variables, split.items_b, everywhere=everywhere)
        return embedded_split(split, a, b, devices=self._devices if everywhere else self._local)

    def embed_all(
        self,
        side: str,
        variables: PyTree,
        items: Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]],
        *,
        everywhere: bool = False,
    ) -> np.ndarray:
        """Embeddings [k, d] of all items of side "a" or "b".

        Args:
          side, variables: as for `embed_side`.
          items: () -> padded batches; where they are divided over all processes also (part=), see `data.iterate_items`.
          everywhere: divide them over all processes.
        """
        return np.concatenate(_parts(items, lambda batches: self.embed_side(side, variables, batches), everywhere))

    def embed_side(self, side: str, variables: PyTree, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Embeddings [k, d] of the items of side "a" or "b", from padded batches (items, where)."""
        encode, width, batches = self._encode[side].start(variables, batches)
        return _finite(evals.embed_items(encode, batches, padding=self._padding.get(side), width=width), side)

    def embed_seeds(self, variables: PyTree, split: EvaluationSplit) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (a [seeds, n, d], b [seeds, m, d]) for stacked variables, in one pass over the items."""
        views = [self.embed_side_of_seeds("a", variables, items()) for items in (split.items_a, *split.views_a)]
        a = evals.mean_direction(views) if split.views_a else views[0]
        return a, self.embed_side_of_seeds("b", variables, split.items_b())

    def embedded_seeds(self, variables: PyTree, split: EvaluationSplit) -> list[evals.SplitEmbeddings]:
        """`embed_seeds` as a split of every seed; the devices of this process share the work of its ranks."""
        both = zip(*self.embed_seeds(variables, split), strict=True)
        return [embedded_split(split, a, b, devices=self._local) for a, b in both]

    def shares_ranks(self, split: EvaluationSplit) -> bool:
        """Whether the ranks of a split are divided over several devices."""
        return evals.shares_ranks(split.b_to_a, devices=self._devices)

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
        encode, width, batches = self._encode_seeds[side].start(variables, batches)
        return _finite(np.moveaxis(evals.embed_items(encode, batches, width=width), 1, 0), side)


def measure_seeds_of(model: Model) -> Callable[..., dict[str, Any]]:
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


def _all_and_local(devices: Sequence[jax.Device] | None) -> tuple[list[jax.Device], list[jax.Device]]:
    found = jax.local_devices() if devices is None else list(devices)
    return found, [device for device in found if device.process_index == jax.process_index()]


def _parts(batches: Callable[..., Iterator[Any]], compute: Callable[[Iterator[Any]], Any], everywhere: bool) -> list:
    """`compute` of all batches, or of the part of each process, in order; a process without batches has no part."""
    if not (everywhere and processes.several()):
        return [compute(batches())]

    def own() -> list:
        part = batches(part=(jax.process_index(), jax.process_count()))
        first = next(part, None)
        return [] if first is None else [compute(itertools.chain([first], part))]

    return [one for found in processes.compute_on_all(own) for one in found]


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

    batches: Callable[..., Iterator[Batch]]


class Classifier:
    """Logits of every head for splits.

    Args:
      model: with `predict`.
      devices: over all processes of the run; None for those of this process.
    """

    def __init__(self, model: Model, *, devices: Sequence[jax.Device] | None = None):
        predict = model.predict
        if predict is None:
            raise ValueError("model: predict is required; only a classifier has logits")

        def of_batch(params: PyTree, model_state: PyTree, batch: Batch) -> Any:
            return predict(params, model_state, *batch_inputs(batch), **batch_masks(batch))

        self._predict = BatchParallel(of_batch, _all_and_local(devices)[1])

    def __call__(self, variables: PyTree, split: LabelledSplit, *, everywhere: bool = False) -> evals.SplitLogits:
        def classify(batches: Iterator[Batch]) -> dict[str, Any]:
            found = self._classify(variables, batches)
            return {"logits": dict(found.logits), "label": found.label, "present": dict(found.present)}

        parts = _parts(split.batches, classify, everywhere)
        joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        return evals.SplitLogits(**joined)

    def _classify(self, variables: PyTree, batches: Iterator[Batch]) -> evals.SplitLogits:
        predict, width, batches = self._predict.start(variables, batches)
        return evals.classify_items(predict, batches, width=width)


class RetrievalEvaluation:
    """(variables, split) -> recalls in both directions, and multi-instance metrics where the split has relevancy.

    Args:
      model, devices: as for `Embedder`.

    Attributes:
      embed: the model's `Embedder`.
    """

    def __init__(self, model: Model, *, devices: Sequence[jax.Device] | None = None):
        self.embed = Embedder(model, devices=devices)

    def __call__(self, variables: PyTree, split: EvaluationSplit, *, everywhere: bool = False) -> dict[str, float]:
        return self.measure(self.embed(variables, split, everywhere=everywhere), split)

    def measure(self, embedded: evals.SplitEmbeddings, split: EvaluationSplit) -> dict[str, float]:
        """The metrics of an embedded split."""
        graded = {} if split.relevancy is None else evals.multi_instance_metrics(embedded, *split.relevancy())
        return {**evals.recall_metrics(embedded), **graded}

    def evaluate_for_log(self, variables: PyTree, split: EvaluationSplit, last: bool = False) -> dict[str, float]:
        """The metrics and the variability of the embeddings. Every process must make the same call.

        Args:
          variables: {"params", "model_state"}.
          split: to evaluate.
          last: add the effective rank, at the last evaluation of a run.
        """
        if _measured_on_device(split, last) and not self.embed.shares_ranks(split):
            return self.embed.measure_seeds(jax.tree.map(lambda x: local_copy(x)[None], variables), split)[0]
        return self._log_metrics(self.embed(variables, split, everywhere=True), split, last)

    def evaluate_seeds_for_log(
        self, variables: PyTree, split: EvaluationSplit, last: bool = False
    ) -> list[dict[str, float]]:
        """`evaluate_for_log` for every seed of stacked variables."""
        if _measured_on_device(split, last):
            return self.embed.measure_seeds(variables, split)
        return [self._log_metrics(one, split, last) for one in self.embed.embedded_seeds(variables, split)]

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
      model, devices: as for `Classifier`.
      heads: predict from the sum of these heads; None for all.
    """

    def __init__(
        self, model: Model, *, heads: Sequence[str] | None = None, devices: Sequence[jax.Device] | None = None
    ):
        self._classify, self._heads = Classifier(model, devices=devices), heads

    def __call__(self, variables: PyTree, split: LabelledSplit, *, everywhere: bool = False) -> dict[str, float]:
        found = self._classify(variables, split, everywhere=everywhere)
        return evals.classification_metrics(found, heads=self._heads)

    def evaluate_for_log(self, variables: PyTree, split: LabelledSplit, last: bool = False) -> dict[str, float]:
        """The same, for the log of a run. Every process must make the same call.

        Args:
          variables: {"params", "model_state"}.
          split: to evaluate.
          last: changes nothing.
        """
        return self(variables, split, everywhere=True)


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
