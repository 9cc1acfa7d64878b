"""Summary of run records: mean and standard deviation per method and condition, differences to the baseline."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.compare.fusion_gain import FusionGain, fusion_gain
from alignment_jax.compare.item_scores import item_scores
from alignment_jax.compare.paired_differences import Difference, compare_paired, mean_and_deviation
from alignment_jax.compare.run_matrix import DataCondition, condition_of
from alignment_jax.core.errors import DataError, RunError
from alignment_jax.core.types import CORRECTED

RunRecord = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class MethodSummary:
    """One method under one condition.

    mean, deviation: of the deciding metric on test, over seeds. val: its mean on val.
    metrics: every test metric, name -> (mean, deviation).
    difference: to the baseline over the seeds that both have; None for the baseline or without common seeds.
    corrected: the same of the metric with corrected scores; None also where a run has no correction of hubs.
    """

    method: str
    condition: DataCondition
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None
    val: float | None
    metrics: Mapping[str, tuple[float, float | None]]
    difference: Difference | None
    corrected: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `low` and `high` are the limits of the deciding interval; `corrected` has the same keys."""
        found: dict[str, Any] = {
            "method": self.method,
            "fraction": self.condition.fraction,
            "mismatched": self.condition.mismatched,
            "seeds": list(self.seeds),
            "mean": self.mean,
            "deviation": self.deviation,
            "val": self.val,
            "metrics": {name: {"mean": mean, "deviation": sd} for name, (mean, sd) in self.metrics.items()},
        }
        corrected = {} if self.corrected is None else {"corrected": _difference_json(self.corrected)}
        return {**found, **_difference_json(self.difference), **corrected}


def _difference_json(difference: Difference | None) -> dict[str, Any]:
    if difference is None:
        return {"difference": None, "low": None, "high": None, "verdict": None}
    low, high = difference.interval or (None, None)
    return {
        "difference": difference.mean,
        "low": low,
        "high": high,
        "verdict": difference.verdict,
        "difference_deviation": difference.deviation,
        "interval_seeds": difference.seeds,
        "interval_seeds_and_items": difference.both,
        "sign_flip_p": difference.p_value,
    }


def summarize(
    folder: pathlib.Path, runs: Sequence[RunRecord], *, methods: Sequence[str], baseline: str, metric: str
) -> list[MethodSummary]:
    """A summary for every method and condition with runs, the largest fraction first.

    Args:
      folder: of the comparison; file names in the records are relative to it.
      runs: the records.
      methods: in the order of the rows.
      baseline: name of the baseline.
      metric: the deciding one, a key of the runs' `test`.

    Raises:
      RunError: a record lacks the metric, or its file of item scores cannot be read.
      DataError: a method and the baseline were tested on different items.
    """
    rows = []
    for condition in sorted({condition_of(run) for run in runs}, key=lambda c: (-c.fraction, c.mismatched)):
        cell = {
            method: {run["seed"]: run for run in runs if run["method"] == method and condition_of(run) == condition}
            for method in methods
        }
        for method in methods:
            if cell[method]:
                found = cell[method], (cell.get(baseline) or {}) if method != baseline else {}
                rows.append(_row(folder, method, condition, *found, metric))
    return rows


def summarize_fusion(
    folder: pathlib.Path, runs: Sequence[RunRecord], *, methods: Sequence[str]
) -> list[dict[str, Any]]:
    """`FusionGain.to_json` of every method and condition with runs of a classifier, the largest fraction first.

    Args:
      folder, runs, methods: as for `summarize`.

    Returns:
      Its keys with `method`, `fraction`, `mismatched` and `seeds`; nothing for alignments.

    Raises:
      RunError: a file of item scores cannot be read.
    """
    rows = []
    for condition in sorted({condition_of(run) for run in runs}, key=lambda c: (-c.fraction, c.mismatched)):
        for method in methods:
            own = [run for run in runs if run["method"] == method and condition_of(run) == condition]
            found = _fusion(folder, sorted(own, key=lambda run: run["seed"]))
            if found is not None:
                seeds = sorted(run["seed"] for run in own)
                rows.append({"method": method, **condition.to_json(), "seeds": seeds, **found.to_json()})
    return rows


def _fusion(folder: pathlib.Path, runs: Sequence[RunRecord]) -> FusionGain | None:
    if not runs or not all("accuracy_a" in run["test"] or "accuracy_b" in run["test"] for run in runs):
        return None
    arrays = [_kept_arrays(folder, run) for run in runs]
    kept = [one for one in arrays if one is not None and "label" in one]
    same = len(kept) == len(runs) and all(np.array_equal(one["label"], kept[0]["label"]) for one in kept)
    learned = [(run.get("analysis") or {}).get("learning") or {} for run in runs]
    return fusion_gain([run["test"] for run in runs], kept if same else None, learned)


def _row(
    folder: pathlib.Path,
    method: str,
    condition: DataCondition,
    own: dict[int, RunRecord],
    base: dict[int, RunRecord],
    metric: str,
) -> MethodSummary:
    seeds = tuple(sorted(own))
    values = [_value(own[seed], metric) for seed in seeds]
    names = [name for name in own[seeds[0]]["test"] if all(name in own[seed]["test"] for seed in seeds)]
    val = [own[seed].get("val", {}).get(metric) for seed in seeds]
    corrected = f"{CORRECTED}{metric}"
    has_corrected = all(corrected in run["test"] for runs in (own, base) for run in runs.values())
    return MethodSummary(
        method=method,
        condition=condition,
        seeds=seeds,
        mean=mean_and_deviation(values)[0],
        deviation=mean_and_deviation(values)[1],
        val=float(np.mean(val)) if all(v is not None for v in val) else None,
        metrics={name: mean_and_deviation([own[seed]["test"][name] for seed in seeds]) for name in names},
        difference=_difference(folder, method, own, base, metric),
        corrected=_difference(folder, method, own, base, corrected) if has_corrected else None,
    )


def _difference(
    folder: pathlib.Path, method: str, own: dict[int, RunRecord], base: dict[int, RunRecord], metric: str
) -> Difference | None:
    """The paired difference over the common seeds; None without any."""
    common = sorted(own.keys() & base.keys())
    if not common:
        return None
    items = [[_items(folder, runs[seed], metric) for seed in common] for runs in (base, own)]
    known = all(one is not None for side in items for one in side)
    if known and not _same_items([one for side in items for one in side]):
        raise DataError(
            f"{folder}: runs of {method} and of the baseline were tested on different items; the data has changed "
            "between them; compare again in another --workdir"
        )
    return compare_paired(
        [_value(base[seed], metric) for seed in common],
        [_value(own[seed], metric) for seed in common],
        items=(items[0], items[1]) if known else None,  # type: ignore[arg-type]
    )


def _same_items(found: Sequence[Any]) -> bool:
    """Whether the runs have the same queries: equal counts of every kind and item."""
    return all(np.array_equal(one.count, found[0].count) for one in found)


def _value(run: RunRecord, metric: str) -> float:
    try:
        return float(run["test"][metric])
    except (KeyError, TypeError) as error:
        known = ", ".join(run.get("test") or {})
        raise RunError(f"a run of {run['method']} has no {metric} on test; it has {known or 'none'}") from error


def _items(folder: pathlib.Path, run: RunRecord, metric: str):
    arrays = _kept_arrays(folder, run)
    return None if arrays is None else item_scores(metric, arrays)


def _kept_arrays(folder: pathlib.Path, run: RunRecord) -> dict[str, np.ndarray] | None:
    """The arrays of the test items of a run; None where it has kept none."""
    name = run.get("items")
    if not name:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RunError(f"{folder}: the file {name!r} of a run is outside of the comparison's folder")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}); remove its run's line from runs.jsonl to train it again"
        ) from error
