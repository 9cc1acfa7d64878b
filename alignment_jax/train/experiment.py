"""One run as plain functions and numbers: the input of the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax

from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.types import Batch, PyTree
from alignment_jax.sampling.sampler import Sampler
from alignment_jax.train.objective import Objective


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as pure functions, from any library.

    init: (key, a, b[, c]) -> (params, model_state), from one batch of each side.
    apply: (params, model_state, a, b[, c], *, train, rows, where, key) -> (outputs, model_state), see `step.make_step`;
      the key is None in evaluation.
    encode_a, encode_b: (params, model_state, items) -> embeddings [k, d], deterministic; None for a classifier.
    predict: (params, model_state, a, b[, c]) -> logits [k, c] of every head by name; None for an alignment.
    project: params -> params within their bounds; called after every update.
    whole_apply: `apply` without gradient caching, where `apply` encodes in micro-batches; else None.
    frozen: () -> the collection `state.FROZEN` of the model's state: parameters that are not trained; checkpoints leave
      it out. None where all parameters are trained.
    padding: side, "a" or "b" -> id at the end of short rows of token ids, which the side's encoder does not read;
      evaluation cuts it off.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., Any]
    encode_a: Callable[..., jax.Array] | None = None
    encode_b: Callable[..., jax.Array] | None = None
    predict: Callable[..., Mapping[str, jax.Array]] | None = None
    project: Callable[[PyTree], PyTree] = lambda params: params
    whole_apply: Callable[..., Any] | None = None
    frozen: Callable[[], PyTree] | None = None
    padding: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EvaluationSplit:
    """A split to evaluate: every item of both sides in padded batches, and the a-item of every b-item.

    relevancy: () -> (candidates int64 [K], relevancy [N, K] in [0, 1]) for graded relevancy: the b-items to rank, and
      their relevancy for every a-item. None: only an item's partners are relevant.
    views_a: further views of all a-items; the embedding of an item is the normalized mean over its views.
    items_a, items_b, views_a: (part=(0, 1)) -> the batches of a part, see `data.iterate_items`.
    same: int [N] and [M], equal for items of a side with the same content; None for a side without duplicates.
    latents: () -> (views of a [views, n, d_a], b [m, d_b]) where all items are arrays and fit into device memory; None
      elsewhere.
    """

    items_a: Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]
    items_b: Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]
    b_to_a: np.ndarray
    relevancy: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    views_a: tuple[Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]], ...] = ()
    latents: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    same: tuple[np.ndarray | None, np.ndarray | None] = (None, None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Intervals in steps (one batch each); 0 means only at the end.

    evaluate_start: evaluate before the first step, too; the initial parameters may be the best.
    profile: first and last step of a profile, counted from 1; None for none.
    debug_nans: find the operation that makes a NaN; slow.
    """

    total_steps: int
    log_every: int
    evaluate_every: int
    save_every: int
    patience: int = 0
    metric: str = "val/rsum"
    average_decay: float = 0.0
    accumulate: int = 1
    keep_checkpoints: int = 2
    evaluate_start: bool = False
    profile: tuple[int, int] | None = None
    debug_nans: bool = False

    def steps_ahead(self, step: int) -> int:
        """Steps from `step` to the next log line, evaluation or checkpoint, and to the ends of the profile."""
        intervals = [i for i in (self.log_every, self.evaluate_every, self.save_every) if i > 0]
        first, last = self.profile or (0, 0)
        ends = [end - step for end in (first - 1, last) if end > step]
        return min([self.total_steps - step, *ends, *(i - step % i for i in intervals)])

    def due(self, step: int, interval: int) -> bool:
        """Whether an action with this interval is due after `step` steps."""
        return step == self.total_steps or (interval > 0 and step % interval == 0)


@renamed_attributes(
    {
        "as_they_are": "scoring_batches",
        "watch": "evaluate_for_log",
        "watch_seeds": "evaluate_seeds_for_log",
        "longer": "extension_message",
        "watched": "log_metrics",
    }
)
@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run.

    sampler: orders the samples of every epoch, by their scores.
    batches: (rows [steps, width], epoch, first) -> the batches of rows[first:]; a pure function.
    first_batch: (a, b[, c]) of a few samples, for the model's init and the report.
    halves: order the rows of batches for FuseMix, see `batching.batch_rows`.
    learning_rate: step -> learning rate, for the log.
    tables: name -> array of a training set that lives on the devices; batches then hold row numbers for these items,
      see `device_data_set`. None reads batches on the host.
    scoring_batches: (rows [steps, width]) -> batches of these samples without augmentation, for fresh scores.
    evaluate: (variables, split of `evaluations`) -> metrics of the task.
    evaluate_for_log: (variables, split, last) -> metrics and statistics of the embeddings for metrics.jsonl; `last`:
      the last evaluation of the run. None to log `evaluate`.
    evaluate_seeds_for_log: `evaluate_for_log` for the stacked variables of several seeds, one result per seed; None
      where the task has no such function.
    shard: "none" replicates the state over the devices, "parameters" shards it, see `parameter_sharding`.
    config: written to config.json; must be equal to resume.
    messages: lines for the log at the start of a run, settings inferred from the data for example.
    extension_message: a line for the log where a finished run is resumed with a longer duration; "" otherwise.
    names: names of the modalities in messages and reports.
    """

    config: Mapping[str, Any]
    seed: int
    model: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    learning_rate: Callable[[int], float]
    plan: Plan
    batch_size: int
    sampler: Sampler
    batches: Callable[[np.ndarray, int, int], Iterator[Batch]]
    first_batch: tuple[np.ndarray, ...]
    evaluations: Mapping[str, Any]
    evaluate: Callable[..., dict[str, float]]
    devices: list[jax.Device]
    halves: bool = False
    shard: str = "none"
    tables: Mapping[str, np.ndarray] | None = None
    scoring_batches: Callable[[np.ndarray], Iterator[Batch]] | None = None
    evaluate_for_log: Callable[[PyTree, Any, bool], dict[str, float]] | None = None
    evaluate_seeds_for_log: Callable[[PyTree, Any, bool], list[dict[str, float]]] | None = None
    messages: tuple[str, ...] = ()
    extension_message: str = ""
    names: tuple[str, ...] = ("a", "b")

    def log_metrics(self, variables: PyTree, split: Any, last: bool) -> dict[str, float]:
        """Metrics of an evaluation during training, as metrics.jsonl gets them. Every process must make this call."""
        return (
            self.evaluate(variables, split)
            if self.evaluate_for_log is None
            else self.evaluate_for_log(variables, split, last)
        )
