"""The orders of an epoch's samples by name, the values of `sampling.name`.

To add one, write a function here (its mathematics in `sampling`) and add a line to `ORDERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from alignment_jax import sampling


class Settings(Protocol):
    """The arguments of an order besides the scores: the section `sampling` of a configuration, and the seed."""

    @property
    def size(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def start(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def replacement(self) -> bool: ...
    @property
    def floor(self) -> float: ...
    @property
    def label(self) -> np.ndarray | None: ...


Scores = np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Order:
    """One way to order the samples; pure functions of their arguments.

    order: (settings, epoch, since, similarity [n] or None, difficulty [n] or None) -> int64 samples of the epoch, in
      order. `since`: epochs since the first scores, the clock of a schedule; `epoch` makes random draws differ.
    shown: (settings, since) -> number of these samples, without scores; None for all.
    repeats: settings -> (first, period): from `since = first` on, `shown` has this period in epochs; (f, 1) where it is
      constant from f on. A duration in epochs is then counted at once; with None, epoch by epoch.
    scored: whether the order depends on scores.
    permutes: settings -> whether every epoch shows every sample once: no effect where one batch holds them all.
    labels: whether it depends on the samples' classes, `settings.label`; data without labels is an error.
    """

    order: Callable[[Settings, int, int, Scores, Scores], np.ndarray]
    shown: Callable[[Settings, int], int] | None = None
    repeats: Callable[[Settings], tuple[int, int]] | None = None
    scored: bool = True
    permutes: Callable[[Settings], bool] = lambda settings: False
    labels: bool = False


def _shuffle(settings: Settings, epoch: int, since: int, similarity: Scores, difficulty: Scores) -> np.ndarray:
    return sampling.shuffle_order(settings.size, epoch=epoch, seed=settings.seed)


def _probabilistic(settings: Settings, epoch: int, since: int, similarity: Scores, difficulty: Scores) -> np.ndarray:
    p = sampling.sampling_probabilities(similarity, difficulty, floor=settings.floor)
    return sampling.draw_order(p, epoch=epoch, seed=settings.seed, replacement=settings.replacement)


def _class_balanced(settings: Settings, epoch: int, since: int, similarity: Scores, difficulty: Scores) -> np.ndarray:
    assert settings.label is not None
    return sampling.class_balanced_order(settings.label, epoch=epoch, seed=settings.seed)


def _curriculum(reverse: bool) -> Order:
    def order(settings: Settings, epoch: int, since: int, similarity: Scores, difficulty: Scores) -> np.ndarray:
        # Samples with equal scores must not be ranked by their place in the file: the curriculum ranks a permutation
        # that is the same in every epoch.
        samples = sampling.shuffle_order(settings.size, epoch=0, seed=settings.seed)
        chosen = sampling.curriculum_order(
            sampling.balance_score(similarity, difficulty)[samples],
            epoch=since,
            seed=settings.seed,
            start=settings.start,
            epochs=settings.epochs,
            reverse=reverse,
        )
        return samples[chosen]

    def shown(settings: Settings, since: int) -> int:
        return sampling.pacing(since, n=settings.size, start=settings.start, epochs=settings.epochs)

    return Order(order, shown, repeats=lambda settings: (settings.epochs, 1))


ORDERS: dict[str, Order] = {
    "shuffle": Order(_shuffle, scored=False, permutes=lambda settings: True),
    "class_balanced": Order(_class_balanced, scored=False, labels=True),
    "curriculum": _curriculum(reverse=False),
    "anti_curriculum": _curriculum(reverse=True),
    "probabilistic": Order(_probabilistic, permutes=lambda settings: not settings.replacement),
}
