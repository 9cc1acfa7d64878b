"""Which samples an epoch shows, and in what order: BSS's schedulers with their scores as plain arrays.

A sampler is a set of pure functions of (state, epoch); the state is a dictionary of arrays with one entry a sample, is
part of the checkpoint and changes only between batches, so that a run resumed in the middle of an epoch goes on with
the order it had. Plain shuffling is a sampler without state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from alignment_jax import sampling
from alignment_jax.core.errors import ConfigError

State = dict[str, np.ndarray]
Measured = Mapping[str, np.ndarray]

METHODS = ("shuffle", "curriculum", "anti_curriculum", "probabilistic")
SCORES = ("fresh", "recycled")


@dataclasses.dataclass(frozen=True)
class Sampler:
    """The order of every epoch, from scores that the training itself updates.

    Fresh scores are measured by a pass over the whole training set before an epoch, as the authors do. Recycled ones are
    what the training steps measured of their own rows anyway, averaged for each sample over the epochs
    (m <- decay m + (1 - decay) x, the first value as it is): no extra pass. They come from the model in training mode,
    each sample's from the moment it was last shown; a sample never shown has the mean of the others. As nothing is known
    at first, epoch 0 is then a plain shuffle and the schedule begins with epoch 1.

    Args:
      size: samples in the training set.
      seed: with the epoch it decides every permutation and draw.
      method: "shuffle", "curriculum", "anti_curriculum" or "probabilistic".
      start, epochs: share of the data that a curriculum grows from, and the epochs of its growth.
      replacement: of "probabilistic": independent draws instead of a weighted permutation.
      floor: of "probabilistic": added to every weight.
      rescore_every: epochs between two scorings; 0 for a single one, at the start.
      similarity, difficulty: names of the two criteria among what a step measures; None leaves one out.
      scores: "fresh" or "recycled".
      decay: of the recycled averages, in [0, 1).

    Raises:
      ConfigError: an unknown name or a number out of range.

    >>> sampler = Sampler(size=4, seed=0, method="curriculum", epochs=4, similarity=None, difficulty="loss")
    >>> state = sampler.rescore(sampler.init(), [{"index": np.arange(4), "loss": np.array([3.0, 1.0, 2.0, 0.0])}])
    >>> [sorted(sampler.order(state, epoch).tolist()) for epoch in (0, 3)]
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
    similarity: str | None = None
    difficulty: str | None = None
    scores: str = "fresh"
    decay: float = 0.5

    def __post_init__(self) -> None:
        for name, value, known in (("name", self.method, METHODS), ("scores", self.scores, SCORES)):
            if value not in known:
                raise ConfigError(f"sampling.{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.rescore_every < 0:
            raise ConfigError(f"sampling.rescore_every must be at least 0, got {self.rescore_every}")
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"sampling.decay must be in [0, 1), got {self.decay}")
        if not 0.0 <= self.start <= 1.0:
            raise ConfigError(f"sampling.start must be in [0, 1], got {self.start}")
        if self.epochs < 1:
            raise ConfigError(f"sampling.epochs must be at least 1, got {self.epochs}")
        if self.scored and self.similarity is None and self.difficulty is None:
            raise ConfigError("sampling.similarity and sampling.difficulty are both 'none': no criterion is left")

    @property
    def scored(self) -> bool:
        """Whether the order depends on scores at all."""
        return self.method != "shuffle"

    @property
    def observes(self) -> bool:
        """Whether `observe` wants what the training steps measure."""
        return self.scored and self.scores == "recycled"

    @property
    def _first(self) -> int:
        return 1 if self.observes else 0

    def init(self) -> State:
        """The state before the first epoch."""
        if not self.scored:
            return {}
        names = ["similarity", "difficulty"]
        if self.observes:
            names += ["running_similarity", "running_difficulty"]
        state = {name: np.zeros(self.size, np.float32) for name in names}
        return {**state, "seen": np.zeros(self.size, bool)} if self.observes else state

    def shown(self, epoch: int) -> int:
        """How many samples this epoch shows; known before training, so that a duration in epochs is one in steps."""
        if "curriculum" not in self.method or epoch < self._first:
            return self.size
        return sampling.pacing(epoch - self._first, n=self.size, start=self.start, epochs=self.epochs)

    def due(self, epoch: int) -> bool:
        """Whether new scores are taken before this epoch."""
        since = epoch - self._first
        return self.scored and since >= 0 and (since % self.rescore_every == 0 if self.rescore_every else since == 0)

    def needs_pass(self, epoch: int) -> bool:
        """Whether `rescore` needs measurements of the whole training set, made for it before this epoch."""
        return self.due(epoch) and not self.observes

    def rescore(self, state: State, measured: Iterable[Measured] = ()) -> State:
        """New scores: from measurements of every sample, or from what was observed in training.

        Args:
          state: the state so far.
          measured: batches with `index` [n], optionally `where` [n] bool, and the criteria [n]; ignored when recycling.

        Raises:
          ValueError: a sample was measured twice or not at all.
        """
        if self.observes:
            seen = state["seen"]
            new = {}
            for name in ("similarity", "difficulty"):
                running = state[f"running_{name}"]
                new[name] = np.where(seen, running, running[seen].mean() if seen.any() else 0.0).astype(np.float32)
            return {**state, **new}
        index, values = self._collected(measured)
        if not np.array_equal(np.sort(index), np.arange(self.size)):
            raise ValueError(f"measured must hold every one of {self.size} samples once, got {len(index)} rows")
        new = {}
        for name, value in values.items():
            new[name] = np.zeros(self.size, np.float32)
            new[name][index] = value
        return {**state, **new}

    def observe(self, state: State, measured: Measured) -> State:
        """The state after one training step: its rows' criteria go into their averages.

        A sample that the batch holds several times counts once, with its mean.

        Args:
          state: the state so far; it is not changed.
          measured: `index` [n], `where` [n] bool and the criteria [n].
        """
        if not self.observes:
            return state
        index, values = self._collected([measured])
        samples, place, count = np.unique(index, return_inverse=True, return_counts=True)
        seen = state["seen"].copy()
        keep = np.where(seen[samples], np.float32(self.decay), np.float32(0.0))
        new = {}
        for name, value in values.items():
            mean = (np.bincount(place, weights=value, minlength=len(samples)) / count).astype(np.float32)
            running = state[f"running_{name}"].copy()
            running[samples] = keep * running[samples] + (1 - keep) * mean
            new[f"running_{name}"] = running
        seen[samples] = True
        return {**state, **new, "seen": seen}

    def order(self, state: State, epoch: int) -> np.ndarray:
        """The samples of an epoch in the order in which they are shown: int64 [shown(epoch)]."""
        if not self.scored or epoch < self._first:
            return sampling.shuffle_order(self.size, epoch=epoch, seed=self.seed)
        similarity = None if self.similarity is None else state["similarity"]
        difficulty = None if self.difficulty is None else state["difficulty"]
        if self.method == "probabilistic":
            p = sampling.sampling_probabilities(similarity, difficulty, floor=self.floor)
            return sampling.draw_order(p, epoch=epoch, seed=self.seed, replacement=self.replacement)
        return sampling.curriculum_order(
            sampling.balance_score(similarity, difficulty),
            epoch=epoch - self._first,
            seed=self.seed,
            start=self.start,
            epochs=self.epochs,
            reverse=self.method == "anti_curriculum",
        )

    def _collected(self, batches: Iterable[Measured]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Sample numbers and criteria of the real rows of all batches."""
        index, values = [], {"similarity": [], "difficulty": []}  # type: ignore[var-annotated]
        for batch in batches:
            number = np.asarray(batch["index"])
            where = np.asarray(batch["where"]) if "where" in batch else np.ones(number.shape, bool)
            index.append(number[where])
            for name, key in (("similarity", self.similarity), ("difficulty", self.difficulty)):
                if key is not None:
                    values[name].append(np.asarray(batch[key], np.float32)[where])
        collected = {name: np.concatenate(parts) for name, parts in values.items() if parts}
        return np.concatenate([np.zeros(0, np.int64), *index]), collected
