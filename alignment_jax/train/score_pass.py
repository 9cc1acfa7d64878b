"""The pass for fresh scores: scores every training sample once, sharded as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.types import Batch
from alignment_jax.train.objective import Metrics
from alignment_jax.train.parameter_sharding import gathers_parameters
from alignment_jax.train.score_tracking import ScoreTracking
from alignment_jax.train.state import TrainState
from alignment_jax.train.step import AXIS, Placement


class ScorePass:
    """Scores batches with the parameters of a state; compiled once.

    Args:
      objective: gives the scores.
      apply: as for `make_step`.
      placement: of state and batches.
    """

    def __init__(self, objective: ScoreTracking, apply: Callable[..., Any], placement: Placement):
        self._placement = placement

        def score(apply: Callable[..., Any], axis_name: str | None) -> Callable[[TrainState, Batch], Metrics]:
            return lambda state, batch: objective.score(
                apply, state.params, state.model_state, batch, step=state.step, axis_name=axis_name
            )

        def score_on_all(state: TrainState, batch: Batch) -> Metrics:
            specs = placement.specs(state)
            local = score(gathers_parameters(apply, specs, AXIS), AXIS)
            mapped = jax.shard_map(local, mesh=placement.mesh, in_specs=(specs, P(AXIS)), out_specs=P(AXIS))
            return mapped(state, batch)

        self._score = jax.jit(score_on_all if placement.several else score(apply, None))

    def __call__(self, state: TrainState, batches: Iterable[Batch]) -> Iterator[dict[str, np.ndarray]]:
        """The scores of each batch as host arrays, padded rows included."""
        for batch in batches:
            yield _fetch(self._score(state, self._placement.put_batch(batch)))


def _fetch(per_sample: Metrics) -> dict[str, np.ndarray]:
    """Per-sample results of all devices and processes, on this host."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(per_sample, tiled=True)
    return {name: np.asarray(value) for name, value in per_sample.items()}


__getattr__ = renamed_names(__name__, {"Scorer": "ScorePass"})
