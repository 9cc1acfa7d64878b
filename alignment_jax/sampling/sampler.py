"""The samples of an epoch and their order: the schedulers of BSS, on the host.

Pure functions of (scores, epoch). The scores are part of the train state, hence of the checkpoint, and change only
between epochs: a run that resumes within an epoch has the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from alignment_jax import sampling
from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.errors import ConfigError, RunError
from alignment_jax.sampling.orders import ORDERS

Scores = Mapping[str, np.ndarray]
Measured = Mapping[str, np.ndarray]

SCORES = ("fresh", "recycled")


@renamed_attributes({"settle": "scores_from_running", "collect": "scores_from_pass"})
@dataclasses.dataclass(frozen=True)
class Sampler:
    """The order of every epoch, from scores of the samples.

    Fresh scores come from a pass over the whole training set before an epoch, as in the authors' code. Recycled ones
    come from the training steps, averaged for each sample over the epochs, without an extra pass: from the model in
    training mode, at the sample's last step. A sample without a score has the mean of the others. With recycled scores
    epoch 0 is a plain shuffle and the schedule starts with epoch 1.

    Args:
      size: samples in the training set.
      seed: with the epoch it decides every permutation and draw.
      method: one of `orders.ORDERS`: "shuffle", "curriculum", "anti_curriculum" or "probabilistic".
      start, epochs: initial share of a curriculum, and the epochs of its growth.
      replacement: of "probabilistic": independent draws instead of a weighted permutation.
      floor: of "probabilistic": added to every weight.
      rescore_every: epochs between two score passes; 0 for a single one, at the start.
      criteria: "similarity" and "difficulty" -> their names among the scores of a step; a missing one is left out of
        the balance score.
      scores: "fresh" or "recycled".
      label: int [size] classes, for an order that depends on them.
      paired: bool [size], the samples with two modalities or more; the others' similarity is the mean of these. None
        for all.

    Raises:
      ConfigError: an unknown name or a number out of range.

    >>> sampler = Sampler(size=4, seed=0, method="curriculum", epochs=4, criteria={"difficulty": "loss"})
    >>> scores = sampler.scores_from_pass([{"index": np.arange(4), "loss": np.array([3.0, 1.0, 2.0, 0.0])}])
    >>> [sorted(sampler.order(scores, epoch).tolist()) for epoch in (0, 3)]
    [[1, 3], [0, 1, 2, 3]]

    Source: BSS (Guan et al., IJCAI 2025): the heuristic scheduler is "curriculum", scored once, the learning-based one
    "probabilistic", scored before every epoch. Recycled scores are ours.
    """

    size: int
    seed: int
    method: str = "shuffle"
    start: float = 0.1
    epochs: int = 40
    replacement: bool = False
    floor: float = 0.01
    rescore_every: int = 1
    criteria: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scores: str = "fresh"
    label: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)
    paired: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, value, known in (("name", self.method, tuple(ORDERS)), ("scores", self.scores, SCORES)):
            if value not in known:
                raise ConfigError(f"sampling.{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.rescore_every < 0:
            raise ConfigError(f"sampling.rescore_every must be at least 0, got {self.rescore_every}")
        if not 0.0 <= self.start <= 1.0:
            raise ConfigError(f"sampling.start must be in [0, 1], got {self.start}")
        if self.epochs < 1:
            raise ConfigError(f"sampling.epochs must be at least 1, got {self.epochs}")
        if self.floor < 0:
            raise ConfigError(f"sampling.floor must be at least 0, got {self.floor}")
        if self.scored and not self.criteria:
            raise ConfigError("sampling.similarity and sampling.difficulty are both 'none': no criterion is left")

    @property
    def scored(self) -> bool:
        """Whether the order depends on scores."""
        return ORDERS[self.method].scored

    @property
    def recycles(self) -> bool:
        """Whether the scores come from training steps."""
        return self.scored and self.scores == "recycled"

    @property
    def _first(self) -> int:
        return 1 if self.recycles else 0

    def shown(self, epoch: int) -> int:
        """Number of samples of this epoch; independent of scores, so that durations in epochs convert to steps."""
        shown = ORDERS[self.method].shown
        return self.size if shown is None or epoch < self._first else shown(self, epoch - self._first)

    @property
    def repeats(self) -> tuple[int, int] | None:
        """(first, period): from epoch `first` on, `shown` has this period in epochs; None if unknown."""
        order = ORDERS[self.method]
        if order.shown is None:
            return 0, 1
        if order.repeats is None:
            return None
        first, period = order.repeats(self)
        return first + self._first, period

    @property
    def permutes(self) -> bool:
        """Whether every epoch shows every sample exactly once."""
        return ORDERS[self.method].permutes(self)

    def due(self, epoch: int) -> bool:
        """Whether new scores are due before this epoch."""
        since = epoch - self._first
        return self.scored and since >= 0 and (since % self.rescore_every == 0 if self.rescore_every else since == 0)

    def scores_from_pass(self, measured: Iterable[Measured]) -> dict[str, np.ndarray]:
        """Fresh scores, float32 [size] for each criterion, from a pass over the training set.

        Args:
          measured: batches with `index` [n], optionally `where` [n] bool, and the criteria [n].

        Raises:
          ValueError: a sample was measured twice or not at all.
          RunError: a score is not finite.
        """
        index: list[np.ndarray] = []
        values: dict[str, list[np.ndarray]] = {name: [] for name in self.criteria}
        for batch in measured:
            number = np.asarray(batch["index"])
            where = np.asarray(batch["where"]) if "where" in batch else np.ones(number.shape, bool)
            index.append(number[where])
            for name, key in self.criteria.items():
                values[name].append(np.asarray(batch[key], np.float32)[where])
        numbers = np.concatenate([np.zeros(0, np.int64), *index])
        if not np.array_equal(np.sort(numbers), np.arange(self.size)):
            raise ValueError(f"measured must hold every one of {self.size} samples once, got {len(numbers)} rows")
        back = np.argsort(numbers)
        scores = {name: np.concatenate(parts)[back] for name, parts in values.items()}
        for name, found in scores.items():
            bad = np.flatnonzero(~np.isfinite(found))
            if bad.size:
                raise RunError(
                    f"{self.criteria[name]} of training sample {bad[0]} is not finite ({bad.size} of "
                    f"{self.size} samples); check the input, or lower optimizer.learning_rate and start again in "
                    "another --workdir"
                )
        return {name: self._of_pairs(name, found, np.ones(self.size, bool)) for name, found in scores.items()}

    def scores_from_running(self, running: Scores, seen: np.ndarray) -> dict[str, np.ndarray]:
        """Recycled scores, float32 [size] for each criterion, from the running averages of the samples seen so far."""
        return {name: self._of_pairs(name, np.asarray(value), np.asarray(seen)) for name, value in running.items()}

    def _of_pairs(self, criterion: str, value: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """A sample without a score has the mean of the others."""
        known = seen if criterion != "similarity" or self.paired is None else seen & self.paired
        return np.where(known, value, value[known].mean() if known.any() else 0.0).astype(np.float32)

    def order(self, scores: Scores, epoch: int) -> np.ndarray:
        """The samples of an epoch, in order: int64 [shown(epoch)]."""
        if epoch < self._first:  # no scores yet
            return sampling.shuffle_order(self.size, epoch=epoch, seed=self.seed)
        known = (scores.get("similarity"), scores.get("difficulty"))
        return ORDERS[self.method].order(self, epoch, epoch - self._first, *known)
