"""The tables of a comparison: verdicts, calibration, noise, rare content, settings, cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax.core.types import CORRECTED
from alignment_jax.report.blocks import flatten
from alignment_jax.report.comparison_charts import NOISES, noise_kinds
from alignment_jax.report.comparison_runs import Comparison, MeanStd, Run, mean_std, number_at
from alignment_jax.report.machine import format_seconds
from alignment_jax.report.metric_names import direction_label, is_percent, metric_label
from alignment_jax.report.tables import Cell, Table, table

Verdicts = Sequence[Mapping[str, Any]]
_UNCHANGED = "·"
# Columns beside the metric that decides, where the runs have them.
_BESIDE = ("a2b_R@1", "b2a_R@1", "accuracy", "macro_f1", "mAP")


def mean_std_cell(found: MeanStd | None, *, digits: int = 1, strong: bool = False) -> Cell:
    """Mean and standard deviation, sorted by the mean."""
    return Cell("–") if found is None else Cell(found.text(digits), found.mean, strong=strong)


def verdict_table(
    comparison: Comparison, verdicts: Verdicts, *, fraction: float | None = None, mismatched: float = 0.0
) -> Table:
    """One row per method: mean and deviation on test, paired difference to the baseline with its interval, verdict.

    Args:
      comparison: the runs.
      verdicts: rows with `method`, `fraction`, `mismatched`, and `difference`, `low`, `high`, `verdict`.
      fraction: of the training samples; None for the largest.
      mismatched: share of mismatched training pairs.
    """
    wanted = comparison.fractions[-1] if fraction is None else fraction
    metric, names = comparison.metric, comparison.names
    beside = [
        key
        for key in _BESIDE
        if key != metric and any(number_at("test", key)(run) is not None for run in comparison.runs)
    ]
    columns = ["method", _titled(metric, names), "difference", "verdict"]
    columns += [_titled(key, names) for key in beside] + ["seeds"]
    rows = []
    for method in comparison.methods:
        runs = comparison.of(method, fraction=wanted, mismatched=mismatched)
        if not runs:
            continue

        def of(key: str, method: str = method) -> MeanStd | None:
            return comparison.mean_std(method, number_at("test", key), fraction=wanted, mismatched=mismatched)

        verdict = find_verdict(verdicts, method, wanted, mismatched)
        rows.append(
            [
                method,
                mean_std_cell(of(metric), strong=True),
                difference_cell(verdict),
                # No line break in the most important column.
                _verdict_text(comparison, method, verdict).replace(" ", "\u00a0"),
                *[mean_std_cell(of(key)) for key in beside],
                Cell(str(len(runs)), float(len(runs))),
            ]
        )
    for method, other in equivalent_methods(comparison.about, wanted, mismatched).items():
        words = equivalence_note(other).replace(" ", "\u00a0")
        rows.append([method, None, None, words, *[None] * len(beside), Cell("0", 0.0)])
    return table(columns, rows)


def equivalence_note(other: str) -> str:
    """The verdict of a method that needs no runs."""
    return f"same as {other}: one batch holds all"


def equivalent_methods(about: Mapping[str, Any], fraction: float, mismatched: float) -> dict[str, str]:
    """Method -> the method with the same training, at one share of the data and of mismatched pairs."""
    return {
        str(one["method"]): str(one["as"])
        for one in about.get("same", ())
        if math.isclose(one["fraction"], fraction) and math.isclose(one["mismatched"], mismatched)
    }


def find_verdict(verdicts: Verdicts, method: str, fraction: float, mismatched: float) -> Mapping[str, Any] | None:
    """The row of one method at one share of the data and of mismatched pairs."""
    for row in verdicts:
        same = math.isclose(float(row.get("fraction", 1.0)), fraction)
        if row["method"] == method and same and math.isclose(float(row.get("mismatched", 0.0)), mismatched):
            return row
    return None


def difference_cell(verdict: Mapping[str, Any] | None) -> Cell:
    """As in "+3.1 [+0.4, +5.9]"."""
    if verdict is None or verdict.get("difference") is None:
        return Cell("–")
    text = f"{verdict['difference']:+.1f}"
    if verdict.get("low") is not None and verdict.get("high") is not None:
        text += f" [{verdict['low']:+.1f}, {verdict['high']:+.1f}]"
    return Cell(text, float(verdict["difference"]))


def _verdict_text(comparison: Comparison, method: str, verdict: Mapping[str, Any] | None) -> str:
    if verdict is not None and verdict.get("verdict"):
        return str(verdict["verdict"])
    return "the baseline" if method == comparison.baseline else "–"


def _titled(key: str, names: tuple[str, str]) -> str:
    return metric_label(key, names) + (" [%]" if is_percent(key) else "")


def calibration_table(comparison: Comparison) -> Table | None:
    """One row per method: temperature, calibration error before and after fitting it on val, entropy, similarities."""
    where = ("analysis", "calibration")
    columns = {
        "temperature": ((*where, "temperature"), 3),
        "ECE": ((*where, "ece"), 3),
        "ECE, temperature fitted on val": ((*where, "fitted", "ece"), 3),
        "entropy [nats]": ((*where, "entropy"), 2),
        "similarity of true pairs": ((*where, "similarity_true"), 3),
        "of wrong pairs": ((*where, "similarity_wrong"), 3),
        "modality gap": (("analysis", "modality_gap"), 3),
    }
    rows = [
        [
            method,
            *[
                mean_std_cell(comparison.mean_std(method, number_at(*keys)), digits=digits)
                for keys, digits in columns.values()
            ],
        ]
        for method in comparison.methods
    ]
    return _unless_empty(["method", *columns], rows)


def retained_table(comparison: Comparison) -> Table | None:
    """One row per method: the share of the metric under each noise, in %."""
    kinds = noise_kinds(comparison)
    columns = ["method"]
    for kind, side in kinds:
        title = NOISES.get(kind, (kind.replace("_", " "), ""))[0].format(comparison.names[side == "b"])
        columns.append(f"{title} [%]")

    def share(key: str):
        value = number_at("analysis", "retained", key)

        def percent(run: Run) -> float | None:
            known = value(run)
            return None if known is None else 100 * known

        return percent

    rows = [
        [method, *[mean_std_cell(comparison.mean_std(method, share(f"{kind}, {side}"))) for kind, side in kinds]]
        for method in comparison.methods
    ]
    return _unless_empty(columns, rows)


def hubness_table(comparison: Comparison, verdicts: Verdicts) -> Table | None:
    """One row per method: the metric plain and corrected with its paired difference, and the skewness of both."""
    metric, names, largest = comparison.metric, comparison.names, comparison.fractions[-1]
    columns = {_titled(metric, names): (metric, 1), "corrected": (f"{CORRECTED}{metric}", 1)}
    skewness = {}
    for direction, words in directions(names).items():
        for when, prefix in (("skewness", ""), ("skewness, corrected", CORRECTED)):
            skewness[f"{words} {when}"] = (f"{prefix}{direction}_skewness", 2)
    titles = ["method", "correction", *columns, "difference, corrected", "verdict, corrected", *skewness]
    rows = []
    for method in comparison.methods:

        def cell(key: str, digits: int, method: str = method) -> Cell:
            return mean_std_cell(comparison.mean_std(method, number_at("test", key)), digits=digits)

        verdict = (find_verdict(verdicts, method, largest, 0.0) or {}).get("corrected")
        corrections = dict.fromkeys(str(run["hubness"]) for run in comparison.of(method) if run.get("hubness"))
        rows.append(
            [
                method,
                Cell("; ".join(corrections) or "–"),
                *[cell(*found) for found in columns.values()],
                difference_cell(verdict),
                Cell(str((verdict or {}).get("verdict") or "–")),
                *[cell(*found) for found in skewness.values()],
            ]
        )
    if all(number_at("test", "a2b_skewness")(run) is None for run in comparison.runs):
        return None
    return _unless_empty(titles, rows)


def long_tail_table(comparison: Comparison) -> Table | None:
    """One row per method: rsum of head, middle and tail, and the gap between head and tail."""
    keys = {name: ("analysis", "long_tail", name, "rsum") for name in ("head", "middle", "tail")}
    columns = {**keys, "head minus tail": ("analysis", "long_tail", "gap")}
    rows = [
        [method, *[mean_std_cell(comparison.mean_std(method, number_at(*path))) for path in columns.values()]]
        for method in comparison.methods
    ]
    return _unless_empty(["method", *columns], rows)


def settings_table(comparison: Comparison) -> Table | None:
    """Every setting in which the methods differ, one column per method; a dot means the value of the base."""
    chosen: dict[str, dict[str, set[str]]] = {}
    for method in comparison.methods:
        for run in comparison.of(method):
            for setting, value in (run.get("settings") or {}).items():
                chosen.setdefault(setting, {}).setdefault(method, set()).add(_plain(value))
    base = flatten(comparison.about.get("config") or {})
    rows = []
    for setting in sorted(chosen):
        cells = [_plain(base[setting]) if setting in base else "–"]
        cells += [", ".join(sorted(chosen[setting].get(method, {_UNCHANGED}))) for method in comparison.methods]
        rows.append([setting, *[Cell(text, muted=text == _UNCHANGED) for text in cells]])
    return table(["setting", "base", *comparison.methods], rows) if rows else None


def weight_table(comparison: Comparison) -> Table | None:
    """One row per method whose direction weights move: largest and mean distance from 1 over the logged steps."""
    columns = {"largest |w - 1|": "largest", "mean |w - 1|": "mean"}
    found = {
        method: [comparison.mean_std(method, number_at("weights", key)) for key in columns.values()]
        for method in comparison.methods
    }
    rows = [[method, *(mean_std_cell(one, digits=3) for one in cells)] for method, cells in found.items() if any(cells)]
    return table(["method", *columns], rows) if rows else None


def search_table(comparison: Comparison) -> Table | None:
    """One row per method: number of trials, val of the unchanged and of the best settings, and the best settings."""
    rows = []
    for method in comparison.methods:
        trials = [trial for trial in comparison.trials if trial["method"] == method]
        scored = [(found, trial) for trial in trials if (found := mean_std(trial["values"]))]
        if not scored:
            continue
        best, chosen = max(scored, key=lambda pair: pair[0].mean)
        unchanged = next((found for found, trial in scored if not trial["settings"]), None)
        words = ", ".join(f"{name} = {_plain(value)}" for name, value in chosen["settings"].items()) or "unchanged"
        count = Cell(str(len(trials)), float(len(trials)))
        rows.append([method, count, mean_std_cell(unchanged), mean_std_cell(best), words])
    return table(["method", "trials", "val, unchanged", "val, best", "best settings"], rows) if rows else None


def cost_table(comparison: Comparison) -> Table | None:
    """One row per method: number of runs and their mean cost."""
    columns = {
        "steps a run": "steps",
        "pairs seen a run": "pairs",
        "time a run": "seconds",
        "device time a run": "device_seconds",
        "energy a run [J]": "energy_joules",
    }
    present = {
        title: key for title, key in columns.items() if any(number_at("cost", key)(run) for run in comparison.runs)
    }
    if not present:
        return None
    rows = []
    for method in comparison.methods:
        runs = [run for run in comparison.runs if run["method"] == method]
        row: list[Any] = [method, Cell(str(len(runs)), float(len(runs)))]
        for key in present.values():
            known = [value for run in runs if (value := number_at("cost", key)(run)) is not None]
            row.append(_amount(key, sum(known) / len(known)) if known else None)
        rows.append(row)
    return table(["method", "runs", *present], rows)


def total_cost(comparison: Comparison) -> str:
    """The cost of the whole comparison, as a sentence."""
    paid = [*comparison.runs, *comparison.trials]
    parts = [f"{len(comparison.runs)} runs" + (f" and {len(comparison.trials)} trials" if comparison.trials else "")]
    for key, words in (("pairs", "pairs seen"), ("device_seconds", "of device time"), ("energy_joules", "J")):
        known = [value for one in paid if (value := number_at("cost", key)(one)) is not None]
        if known:
            parts.append(f"{_amount(key, sum(known)).text} {words}")
    return f"In total: {', '.join(parts)}."


def _amount(key: str, value: float) -> Cell:
    return Cell(format_seconds(value) if key.endswith("seconds") else f"{value:,.0f}", value)


def noise_title(kind: str, side: str, names: tuple[str, str]) -> str:
    """The title of a chart of noise."""
    return NOISES.get(kind, (kind.replace("_", " "), ""))[0].format(names[side == "b"])


def directions(names: tuple[str, str]) -> dict[str, str]:
    """Both directions of a retrieval in words."""
    return {direction: direction_label(direction, names) for direction in ("a2b", "b2a")}


def _unless_empty(columns: Sequence[str], rows: list[list[Any]]) -> Table | None:
    """The table without its empty columns; None when all are empty."""
    kept = [
        k
        for k in range(len(columns))
        if k == 0 or any(not isinstance(row[k], Cell) or row[k].text != "–" for row in rows)
    ]
    return table([columns[k] for k in kept], [[row[k] for k in kept] for row in rows]) if len(kept) > 1 else None


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
