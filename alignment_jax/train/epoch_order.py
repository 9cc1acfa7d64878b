"""The batches of an epoch as rows of sample numbers, and the scores that order them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from alignment_jax.core.types import Batch, PyTree
from alignment_jax.train import processes
from alignment_jax.train.batching import batch_rows, scoring_rows
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.score_pass import ScorePass
from alignment_jax.train.score_tracking import ScoreTracking
from alignment_jax.train.state import TrainState
from alignment_jax.train.step import Placement


class EpochOrder:
    """Orders the samples of every epoch.

    Attributes:
      share_shown: samples of the last ordered epoch, as a share of the training set.
    """

    def __init__(self, experiment: Experiment, placement: Placement):
        self._experiment, self._placement = experiment, placement
        self._score_pass = None
        if isinstance(experiment.objective, ScoreTracking):
            self._score_pass = ScorePass(experiment.objective, experiment.model.apply, placement)
        self.share_shown = 1.0

    def scores_due(self, epoch: int, batch: int) -> bool:
        """Whether new scores are taken before this batch of the epoch."""
        return self._score_pass is not None and batch == 0 and self._experiment.sampler.due(epoch)

    def update_scores(self, state: TrainState) -> TrainState:
        """The state with new scores: from the running averages, or from a pass over the training set."""
        assert self._score_pass is not None
        sampler, method_state = self._experiment.sampler, state.method_state
        if sampler.recycles:
            scores = sampler.scores_from_running(_on_host(method_state["running"]), _on_host(method_state["seen"]))
        else:
            scores = sampler.scores_from_pass(self._score_pass(state, self._scoring_batches()))
        scores = processes.put_from_primary(scores, self._placement.replicated)
        return dataclasses.replace(state, method_state={**method_state, "scores": scores})

    def rows(self, state: TrainState, epoch: int) -> np.ndarray:
        """Sample numbers int64 [steps, width] of all batches of the epoch, -1 for padding; see `batch_rows`."""
        experiment = self._experiment
        return batch_rows(
            self._order(state, epoch),
            batch_size=experiment.batch_size,
            devices=len(experiment.devices),
            halves=experiment.halves,
        )

    def _order(self, state: TrainState, epoch: int) -> np.ndarray:
        sampler = self._experiment.sampler
        if self._score_pass is None:
            return sampler.order({}, epoch)
        scores = _on_host(state.method_state["scores"])
        order = processes.compute_on_primary(lambda: {"order": sampler.order(scores, epoch)})["order"]
        self.share_shown = len(order) / sampler.size
        return order

    def _scoring_batches(self) -> Iterator[Batch]:
        """This process's rows of the batches that score the whole training set."""
        experiment = self._experiment
        assert experiment.scoring_batches is not None
        rows = scoring_rows(experiment.sampler.size, batch_size=experiment.batch_size, devices=len(experiment.devices))
        return experiment.scoring_batches(rows[:, self._placement.local_columns(rows.shape[1])])


def _on_host(tree: PyTree) -> PyTree:
    """Replicated arrays as arrays of this process."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)
