"""Results of a comparison: results.csv, results.json, results.tex, and the table for the terminal."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignment_jax import report
from alignment_jax.compare.equivalent_methods import equivalent_under
from alignment_jax.compare.run_matrix import DataCondition, condition_of
from alignment_jax.compare.summary import MethodSummary
from alignment_jax.core.types import CORRECTED
from alignment_jax.report import Cell, Table, is_percent, metric_label, table

CSV, JSON, LATEX = "results.csv", "results.json", "results.tex"
_BESIDE = ("a2b_R@1", "b2a_R@1", "macro_f1", "mAP")


def format_mean_sd(mean: float, deviation: float | None, digits: int = 1) -> str:
    """As in "404.1 ± 3.2".

    >>> format_mean_sd(404.125, 3.21), format_mean_sd(404.125, None)
    ('404.1 ± 3.2', '404.1')
    """
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def format_interval(low: float | None, high: float | None) -> str:
    """As in "+0.4 to +5.9".

    >>> format_interval(0.4, 5.9), format_interval(None, None)
    ('+0.4 to +5.9', '–')
    """
    return "–" if low is None or high is None else f"{low:+.1f} to {high:+.1f}"


def main_table(
    rows: Sequence[MethodSummary],
    *,
    metric: str,
    baseline: str,
    names: tuple[str, str],
    same: Mapping[str, str] | None = None,
) -> Table:
    """The methods under one data condition, a row each.

    Args:
      rows: of one condition.
      metric: the deciding one.
      baseline: name of the baseline.
      names: of the two modalities.
      same: methods without own runs, see `equivalent_methods.equivalent_under`.
    """
    corrected = f"{CORRECTED}{metric}"
    beside = [key for key in _BESIDE if key != metric and any(key in row.metrics for row in rows)]
    columns = ["method", _titled(metric, names), f"difference to {baseline}", "95 % interval", "verdict"]
    hubs = any(corrected in row.metrics for row in rows)
    columns += ["corrected", "its difference", "its 95 % interval"] if hubs else []
    columns += [_titled(key, names) for key in beside] + ["runs"]
    lines = []
    for row in rows:
        found = row.to_json()
        difference = Cell("–") if row.difference is None else Cell(f"{row.difference.mean:+.1f}", row.difference.mean)
        verdict = "the baseline" if row.method == baseline else found["verdict"] or "–"
        beside_cells = [
            Cell(format_mean_sd(*row.metrics[key]), row.metrics[key][0]) if key in row.metrics else None
            for key in beside
        ]
        lines.append(
            [
                row.method,
                Cell(format_mean_sd(row.mean, row.deviation), row.mean, strong=True),
                difference,
                Cell(format_interval(found["low"], found["high"]), found["low"]),
                verdict,
                *(_corrected_cells(row, corrected) if hubs else ()),
                *beside_cells,
                Cell(str(len(row.seeds)), float(len(row.seeds))),
            ]
        )
    for method, other in (same or {}).items():
        empty = [None] * (len(beside) + (3 if hubs else 0))
        lines.append([method, None, None, None, report.equivalence_note(other), *empty, Cell("0", 0.0)])
    return table(columns, lines)


def _corrected_cells(row: MethodSummary, metric: str) -> list[Cell]:
    """The metric with corrected scores, its difference to the baseline and the interval of that."""
    if metric not in row.metrics:
        return [Cell("–")] * 3
    cells, found = [Cell(format_mean_sd(*row.metrics[metric]), row.metrics[metric][0])], row.to_json().get("corrected")
    if found is None:
        return [*cells, Cell("–"), Cell("–")]
    interval = Cell(format_interval(found["low"], found["high"]), found["low"])
    return [*cells, Cell(f"{found['difference']:+.1f}", found["difference"]), interval]


def conditions_table(
    rows: Sequence[MethodSummary], *, baseline: str, about: Mapping[str, Any] | None = None
) -> Table | None:
    """Methods by conditions, "*" where the interval of the difference excludes 0; None for a single condition.

    Args:
      rows: of all conditions.
      baseline: whose row has no differences.
      about: the content of comparison.json, for methods without own runs.
    """
    conditions = list(dict.fromkeys(row.condition for row in rows))
    if len(conditions) < 2:
        return None
    same = {condition: equivalent_under(about or {}, condition) for condition in conditions}
    methods = list(dict.fromkeys([*(row.method for row in rows), *(name for found in same.values() for name in found)]))
    known = {(row.method, row.condition): row for row in rows}

    def cell(method: str, condition: DataCondition) -> Cell | None:
        row = known.get((method, condition))
        if row is None:
            other = same[condition].get(method)
            return None if other is None else Cell(f"as {other}")
        mark = " *" if row.difference is not None and row.difference.verdict in ("better", "worse") else ""
        return Cell(format_mean_sd(row.mean, row.deviation) + mark, row.mean)

    lines = [[method, *(cell(method, condition) for condition in conditions)] for method in methods]
    return table(["method", *(condition.label for condition in conditions)], lines)


def comparison_text(
    rows: Sequence[MethodSummary],
    *,
    metric: str,
    baseline: str,
    names: tuple[str, str],
    about: Mapping[str, Any] | None = None,
    fusion: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The tables for the terminal; `about` as for `conditions_table`, `fusion` from `summarize_fusion`."""
    if not rows:
        return "no run has finished yet"
    first = rows[0].condition
    main = [row for row in rows if row.condition == first]
    parts = [
        f"test, {first.label}, of the checkpoints that were best on val; mean ± standard deviation over seeds:",
        report.to_plain(
            main_table(main, metric=metric, baseline=baseline, names=names, same=equivalent_under(about or {}, first))
        ),
    ]
    if (others := conditions_table(rows, baseline=baseline, about=about)) is not None:
        label = metric_label(metric, names)
        parts += [
            "",
            f"{label} by training data (* the interval of the difference to {baseline} excludes 0):",
            report.to_plain(others),
        ]
    modalities = (about or {}).get("modalities") or names
    parts += fusion_text([row for row in fusion if condition_of(row) == first], modalities)
    return "\n".join(parts)


def fusion_text(rows: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> list[str]:
    """Fusion against single modalities under one condition, as lines for the terminal; none for an alignment."""
    tables = report.fusion_table(rows, modalities), report.learning_table(rows, modalities)
    lines = ["", "fusion and each modality alone; in brackets 95 % intervals:"] if rows else []
    lines += [line for found in tables if found is not None for line in (report.to_plain(found), "")]
    return lines + report.fusion_sentences(rows, modalities)


def write_results(
    folder: pathlib.Path,
    comparison: Mapping[str, Any],
    rows: Sequence[MethodSummary],
    runs: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    fusion: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes results.csv (a row per run and per trial), results.json (summary, runs, trials) and results.tex.

    results.json of a classifier holds `fusion`, from `summarize_fusion`, too.
    """
    report.write_text_atomic(folder / CSV, csv_text(runs, trials))
    shown = [
        {key: run[key] for key in run if key not in ("analysis", "history", "embeddings", "items")} for run in runs
    ]
    report.write_json_atomic(
        folder / JSON,
        {
            **{key: comparison.get(key) for key in ("title", "metric", "baseline", "methods", "seeds", "complete")},
            "same": list(comparison.get("same", ())),
            "summary": [row.to_json() for row in rows],
            **({"fusion": list(fusion)} if fusion else {}),
            "runs": shown,
            "trials": list(trials),
        },
    )
    report.write_text_atomic(folder / LATEX, latex_text(rows, comparison))


def csv_text(runs: Iterable[Mapping[str, Any]], trials: Iterable[Mapping[str, Any]]) -> str:
    """A row for every run and for every trial of a search; trials have val alone.

    >>> run = {"method": "vals", "seed": 0, "test": {"rsum": 401.5}, "val": {"rsum": 399.0}}
    >>> print(csv_text([run], []))
    kind,method,fraction,mismatched,seed,trial,test/rsum,val/rsum
    run,vals,1.0,0.0,0,0,401.5,399.0
    """
    lines: list[dict[str, Any]] = []
    for run in runs:
        lines.append({**_head("run", run), "seed": run["seed"], "trial": run.get("trial", 0), **_numbers(run)})
    for trial in trials:
        for seed, value in zip(trial["seeds"], trial["values"], strict=True):
            numbers = {**_numbers({"cost": trial.get("cost")}), f"val/{trial['metric']}": value}
            settings = {f"setting/{name}": found for name, found in trial["settings"].items()}
            lines.append({**_head("trial", trial), "seed": seed, "trial": trial["trial"], **numbers, **settings})
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _head(kind: str, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": run["method"],
        "fraction": run.get("fraction", 1.0),
        "mismatched": run.get("mismatched", 0.0),
    }


def _numbers(run: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("test", "val", "weights", "cost"):
        found |= {f"{part}/{name}": value for name, value in (run.get(part) or {}).items()}
    return found


def latex_text(rows: Sequence[MethodSummary], comparison: Mapping[str, Any]) -> str:
    """A LaTeX table (booktabs) of every condition, a row per method; bold where the verdict is "better"."""
    metric, baseline = comparison["metric"], comparison["baseline"]
    lines = [
        f"% {comparison.get('title', 'comparison')}: {metric} on test, mean and standard deviation over seeds;".replace(
            "\n", " "
        ),
        "% difference to the baseline with its 95 % interval; bold where it is above 0. Needs booktabs.",
        r"\begin{tabular}{llrrl}",
        r"\toprule",
        f"data & method & {_tex(metric)} & difference to {_tex(baseline)} & 95\\,\\% interval \\\\",
    ]
    shown: DataCondition | None = None
    for row in rows:
        if row.condition != shown:
            lines += [*_same_lines(comparison, shown), r"\midrule"]
        found = row.to_json()
        value = f"{row.mean:.1f}" + ("" if row.deviation is None else f" \\pm {row.deviation:.1f}")
        value = f"$\\mathbf{{{value}}}$" if found["verdict"] == "better" else f"${value}$"
        difference = "--" if row.difference is None else f"${row.difference.mean:+.1f}$"
        limits = "--" if found["low"] is None else f"$[{found['low']:+.1f}, {found['high']:+.1f}]$"
        label = _tex(row.condition.label) if row.condition != shown else ""
        lines.append(f"{label} & {_tex(row.method)} & {value} & {difference} & {limits} \\\\")
        shown = row.condition
    lines += _same_lines(comparison, shown)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _same_lines(comparison: Mapping[str, Any], condition: DataCondition | None) -> list[str]:
    same = {} if condition is None else equivalent_under(comparison, condition)
    return [
        f" & {_tex(method)} & \\multicolumn{{3}}{{l}}{{{_tex(report.equivalence_note(other))}}} \\\\"
        for method, other in same.items()
    ]


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _titled(key: str, names: tuple[str, str]) -> str:
    return metric_label(key, names) + (" [%]" if is_percent(key) else "")
