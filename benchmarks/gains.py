"""One table over several comparisons: what each method gains over the baseline, by data set and number of pairs."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from alignment_jax.compare import run_records as records
from alignment_jax.compare.paired_differences import Difference
from alignment_jax.compare.summary import MethodSummary, summarize
from alignment_jax.core.types import CORRECTED
from alignment_jax.report import to_markdown
from alignment_jax.report.tables import table

Column = tuple[str, dict[str, MethodSummary]]


def columns(folder: pathlib.Path, name: str, items: int) -> list[Column]:
    """The conditions of a comparison without mismatched pairs, few pairs first: a title and the rows by method.

    Args:
      folder: of the comparison.
      name: of the data set.
      items: training items of all data.
    """
    about = records.read_comparison(folder)
    runs, _ = records.read_runs_and_trials(folder)
    if about is None or not runs:
        return []
    rows = summarize(folder, runs, methods=about["methods"], baseline=about["baseline"], metric=about["metric"])
    clean = [row for row in rows if not row.condition.mismatched]
    found = []
    for condition in sorted({row.condition for row in clean}):
        rows_here = {row.method: row for row in clean if row.condition == condition}
        found.append((f"{name}, {round(items * condition.fraction):,}", rows_here))
    return found


def gains_table(found: Sequence[Column], methods: Sequence[str], *, corrected: bool) -> str:
    """Markdown: the baseline's metric, then every method's difference to it; * where the interval excludes zero.

    Args:
      found: from `columns`.
      methods: the rows, the baseline first.
      corrected: the metric with hubness correction, of the baseline too.
    """
    baseline, *others = methods
    name = f"{CORRECTED}rsum" if corrected else "rsum"
    lines = [[baseline, *(f"{rows[baseline].metrics[name][0]:.1f}" for _, rows in found)]]
    for method in others:
        rows = [rows.get(method) for _, rows in found]
        lines.append([method, *(_cell(row and (row.corrected if corrected else row.difference)) for row in rows)])
    return to_markdown(table(["method", *(title for title, _ in found)], lines))


def _cell(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    interval = difference.interval
    apart = interval is not None and not interval[0] <= 0 <= interval[1]
    return f"{difference.mean:+.1f}" + (" *" if apart else "")
