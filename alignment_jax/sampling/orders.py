"""The orders in which an epoch can show its samples, by name: what `sampling.name` may be.

Adding one is a function here (or in `sampling`, where its mathematics belongs) and one line in `ORDERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from alignment_jax import sampling


class Settings(Protocol):
    """What an order may depend on beside the scores: the section `sampling` of a configuration, and the seed."""

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
      order. `since`: epochs since there have been scores, what a schedule counts; `epoch` makes random draws differ.
    shown: (settings, since) -> how many samples that is, known before anything is scored; None for all of them.
    repeats: settings -> (first, period): from `since = first` on, `shown` repeats itself every `period` epochs, (f, 1)
      where it is constant from f on. A duration in epochs is then counted at once; with None, epoch by epoch.
    scored: whether the order depends on scores at all.
    permutes: settings -> whether every epoch shows every sample once, so that it changes nothing where one batch holds
      them all.
    labels: whether it depends on the samples' classes, `settings.label`; data without them is refused.
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
        # Equal scores (all samples at first, those never seen later) must not be ranked by their place in the file: the
        # curriculum ranks a permutation that is the same in every epoch.
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
