"""Converts the durations of a configuration to steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from alignment_jax.config.durations import parse_duration
from alignment_jax.core.errors import ConfigError
from alignment_jax.sampling.sampler import Sampler


@dataclasses.dataclass(frozen=True)
class StepCounts:
    """Steps of one run.

    steps_per_epoch: of an epoch that shows every sample once; intervals count in these.
    batch_size: samples in one step.
    of_epochs: (epochs) -> steps of the first so many epochs, which an order may make shorter.
    total: of the whole training.
    """

    steps_per_epoch: int
    batch_size: int
    of_epochs: Callable[[float], float]
    total: int

    def interval(self, text: str, name: str) -> int:
        """Steps of a duration such as "1 epochs"; `name` is its setting, for messages."""
        return parse_duration(text, name=name).steps(
            steps_per_epoch=self.steps_per_epoch, batch_size=self.batch_size, total_steps=self.total
        )

    def multiples(self, text: str, name: str) -> list[int]:
        """The steps at which 1, 2, 3, ... times a duration has passed since the start, before the training ends."""
        duration = parse_duration(text, name=name)
        found: list[int] = []
        while duration.amount > 0:
            multiple = dataclasses.replace(duration, amount=duration.amount * (len(found) + 1))
            step = multiple.steps(
                steps_per_epoch=self.steps_per_epoch,
                batch_size=self.batch_size,
                total_steps=self.total,
                of_epochs=self.of_epochs,
            )
            if step >= self.total:
                break
            found.append(step)
        return found


def count_steps(duration: str, sampler: Sampler, *, batch_size: int, halves: bool, start: str) -> StepCounts:
    """The steps of a run.

    Args:
      duration: `train.duration`.
      sampler: of the training set.
      batch_size: samples in one step.
      halves: batches have an even size, for FuseMix.
      start: `init.name`.

    Raises:
      ConfigError: no step, and a random start.
    """
    steps_per_epoch = max(1, sampler.size // batch_size)
    of_epochs = epoch_lengths(sampler, batch_size=batch_size, halves=halves)
    total = parse_duration(duration, name="train.duration").steps(
        steps_per_epoch=steps_per_epoch, batch_size=batch_size, of_epochs=of_epochs
    )
    if total < 1 and start == "random":
        raise ConfigError(
            f"train.duration is {duration!r}: there is nothing to train, and init.name=random is untrained; set a "
            "longer train.duration, init.name=cca (closed form) or init.name=run:DIR (another run)"
        )
    return StepCounts(steps_per_epoch, batch_size, of_epochs, total)


def epoch_lengths(sampler: Sampler, *, batch_size: int, halves: bool) -> Callable[[float], float]:
    """(epochs) -> steps that the first so many epochs take; an order may show fewer samples in some of them.

    >>> of_epochs = epoch_lengths(Sampler(size=100, seed=0), batch_size=30, halves=False)
    >>> of_epochs(2), of_epochs(2.5)
    (6.0, 7.5)
    """
    parts = 2 if halves else 1

    def length(epoch: int) -> int:
        shown = sampler.shown(epoch)
        width = max(1, min(batch_size, shown) // parts) * parts
        return max(1, shown // width)

    def of_epochs(epochs: float) -> float:
        whole, repeats = int(epochs), sampler.repeats
        first, period = (whole, 1) if repeats is None else repeats
        before = sum(length(epoch) for epoch in range(min(whole, first)))
        times, rest = divmod(max(0, whole - first), period)
        cycle = [length(epoch) for epoch in range(first, first + period)] if whole > first else []
        return float(before + times * sum(cycle) + sum(cycle[:rest]) + (epochs - whole) * length(whole))

    return of_epochs
