"""Whether the prediction of a classifier beats its best modality: accuracy of every head, gains, intervals, verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax import evals, report
from alignment_jax.compare.item_scores import Arrays, item_scores
from alignment_jax.compare.paired_differences import ItemScores, compare_paired, metric_intervals

SIDES = ("a", "b", "c")
BEATS, BEATEN, OPEN, UNKNOWN = "beats", "does not beat", "not distinguishable", "no interval"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean over seeds, in % or points, with its 95 % interval; None for both limits where nothing can be resampled."""

    mean: float
    low: float | None
    high: float | None

    def within(self, least: float, most: float) -> Estimate:
        """With the limits inside [least, most], the values that are possible; few seeds stretch them beyond."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.mean, max(self.low, least), min(self.high, most))


@dataclasses.dataclass(frozen=True)
class ModalityResult:
    """One modality alone, judged by its own head on the samples that have it.

    accuracy: of its head. gain: of the prediction over its head, on the same samples. over_chance: its head over the
    most frequent class; None where the run has kept no items. samples: number of test samples that have the modality;
    None likewise. learned: mean of `report.learning_speed` over seeds; None where unknown or not above chance.
    """

    accuracy: Estimate
    gain: Estimate
    over_chance: Estimate | None
    samples: int | None
    learned: float | None

    @property
    def above_chance(self) -> bool:
        """False where the interval of `over_chance` does not exclude chance."""
        return self.over_chance is None or self.over_chance.low is None or self.over_chance.low > 0


@dataclasses.dataclass(frozen=True)
class FusionGain:
    """The prediction of a classifier and its modalities.

    accuracy, macro_f1, mAP: of the prediction; the latter two are None where the runs lack them. gap: best minus worst
    modality, mean over seeds. samples: number of test samples, None where unknown.
    """

    accuracy: Estimate
    macro_f1: Estimate | None
    mAP: Estimate | None
    modalities: Mapping[str, ModalityResult]
    gap: float
    samples: int | None

    @property
    def best(self) -> str:
        """The modality that is hardest to beat: the smallest gain, of those whose interval reaches 0 if there are any.

        Where every sample has all modalities, the smallest gain is that over the most accurate one.
        """

        def place(side: str) -> tuple[bool, float]:
            gain = self.modalities[side].gain
            return gain.low is not None and gain.low > 0, gain.mean

        return min(self.modalities, key=place)

    @property
    def verdict(self) -> str:
        """`BEATS` where the gain over every modality is above 0 with its interval, `BEATEN` where one is not above 0.

        No correction for the number of modalities is needed: the prediction must beat each of them.
        """
        gain = self.modalities[self.best].gain
        if gain.low is None or gain.high is None:
            return UNKNOWN
        return BEATS if gain.low > 0 else BEATEN if gain.high <= 0 else OPEN

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `best`, `gain` (over the best modality) and `verdict`."""
        found = dataclasses.asdict(self)
        for side, modality in self.modalities.items():
            found["modalities"][side]["above_chance"] = modality.above_chance
        gain = dataclasses.asdict(self.modalities[self.best].gain)
        return {**found, "best": self.best, "gain": gain, "verdict": self.verdict}


def fusion_gain(
    tests: Sequence[Mapping[str, float]],
    items: Sequence[Arrays] | None,
    learned: Sequence[Mapping[str, float | None]] = (),
) -> FusionGain | None:
    """Judges the runs of one method.

    Args:
      tests: metrics of each seed on test, from `evals.classification_metrics`.
      items: arrays of each seed from `evals.head_items`, over the same samples; None where a run has not kept them,
        which leaves intervals over seeds alone and gains that ignore missing modalities.
      learned: modality -> `report.learning_speed`, of each seed.

    Returns:
      None for runs without the accuracy of a single modality.
    """
    sides = [side for side in SIDES if all(f"accuracy_{side}" in test for test in tests)]
    if not sides:
        return None
    known = {} if items is None else _item_metrics(sides, items)
    limits = metric_intervals(known)

    def estimate(name: str, values: Sequence[float] | None) -> Estimate | None:
        if name in known:
            means = [float(one.value.sum() / one.count.sum()) for one in known[name]]
            found = Estimate(float(np.mean(means)), *limits[name])
        elif values is not None:
            low, high = compare_paired([0.0] * len(values), values).interval or (None, None)
            found = Estimate(float(np.mean(values)), low, high)
        else:
            return None
        return found.within(-100.0 if name.startswith(("gain", "over")) else 0.0, 100.0)

    def of_tests(name: str) -> list[float] | None:
        return [float(test[name]) for test in tests] if all(name in test for test in tests) else None

    modalities = {}
    for side in sides:
        single, fused = of_tests(f"accuracy_{side}"), of_tests("accuracy")
        assert single is not None
        assert fused is not None
        accuracy = estimate(f"accuracy_{side}", single)
        gain = estimate(f"gain_{side}", list(np.subtract(fused, single)))
        assert accuracy is not None
        assert gain is not None
        if accuracy.low is not None and accuracy.high is not None:
            # A modality leaves at most its errors to be gained.
            gain = gain.within(-accuracy.high, 100.0 - accuracy.low)
        counts = known.get(f"accuracy_{side}")
        modality = ModalityResult(
            accuracy,
            gain,
            estimate(f"over_chance_{side}", None),
            None if counts is None else int(counts[0].count.sum()),
            None,
        )
        speeds = [one.get(side) for one in learned]
        if modality.above_chance and speeds and all(speed is not None for speed in speeds):
            modality = dataclasses.replace(modality, learned=float(np.mean([float(speed or 0) for speed in speeds])))
        modalities[side] = modality
    each = [[float(test[f"accuracy_{side}"]) for side in sides] for test in tests]
    accuracy = estimate("accuracy", of_tests("accuracy"))
    assert accuracy is not None
    return FusionGain(
        accuracy=accuracy,
        macro_f1=estimate("macro_f1", of_tests("macro_f1")),
        mAP=estimate("mAP", of_tests("mAP")),
        modalities=modalities,
        gap=float(np.mean([max(one) - min(one) for one in each])),
        samples=int(known["accuracy"][0].count.sum()) if known else None,
    )


def fusion_of_run(
    name: str,
    classified: evals.SplitLogits,
    *,
    heads: Sequence[str] | None,
    learned: Mapping[str, float | None] | None = None,
) -> dict[str, Any] | None:
    """The row of one run for `report.fusion_table`; its intervals cover the samples alone.

    Args:
      name: of the row.
      classified, heads: as for `evals.head_items`.
      learned: modality -> `report.learning_speed`.
    """
    test, items = evals.classification_metrics(classified, heads=heads), evals.head_items(classified, heads=heads)
    found = fusion_gain([test], [items], [learned or {}])
    return None if found is None else {"method": name, **found.to_json()}


def learning_speeds(
    history: Sequence[Mapping[str, Any]], sides: Sequence[str], *, val_label: np.ndarray
) -> dict[str, float | None]:
    """Modality -> `report.learning_speed` of the accuracy of its head on val.

    Args:
      history: rows of metrics.jsonl.
      sides: the modalities.
      val_label: classes of the samples of val, which set chance: always the most frequent class.
    """
    chance = evals.chance_classification(val_label)["accuracy"]
    return {side: report.learning_speed(history, f"val/accuracy_{side}", chance=chance) for side in sides}


def _item_metrics(sides: Sequence[str], items: Sequence[Arrays]) -> dict[str, list[ItemScores]]:
    """Name -> contributions of the items, of each seed; without the names that a run has not kept."""
    names = ["accuracy", "macro_f1", *(f"{kind}_{side}" for side in sides for kind in ("accuracy", "gain"))]
    found = {name: [item_scores(name, arrays) for arrays in items] for name in names}
    # Classes without a test sample say nothing about a ranking.
    found["mAP"] = [item_scores("mAP_occurring" if "mAP_occurring" in one else "mAP", one) for one in items]
    for side in sides:
        pairs = [(item_scores(f"accuracy_{side}", one), item_scores(f"chance_{side}", one)) for one in items]
        found[f"over_chance_{side}"] = [
            None if own is None or chance is None else ItemScores(own.value - chance.value, own.count)
            for own, chance in pairs
        ]
    return {name: list(each) for name, each in found.items() if all(one is not None for one in each)}  # type: ignore[arg-type]
