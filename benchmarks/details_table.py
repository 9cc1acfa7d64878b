"""Rare and frequent content, calibration and hubs of every method, as a table with a row for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from claims import number_at

from alignment_jax.compare.run_matrix import DataCondition, condition_of
from alignment_jax.core.types import CORRECTED
from alignment_jax.report.comparison_runs import mean_std
from alignment_jax.report.comparison_tables import mean_std_cell
from alignment_jax.report.tables import Table, table

_TAIL, _ECE = ("analysis", "long_tail"), ("analysis", "calibration")
# Title, where the number is in a run's record, digits.
COLUMNS = (
    ("rare", (*_TAIL, "tail", "rsum"), 1),
    ("middle", (*_TAIL, "middle", "rsum"), 1),
    ("frequent", (*_TAIL, "head", "rsum"), 1),
    ("ECE", (*_ECE, "ece"), 3),
    ("ECE, temperature of val", (*_ECE, "fitted", "ece"), 3),
    ("modality gap", ("analysis", "modality_gap"), 2),
    ("hubs among b", ("test", "a2b_skewness"), 2),
    ("corrected", ("test", f"{CORRECTED}a2b_skewness"), 2),
)


def details_table(runs: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> Table | None:
    """Mean ± standard deviation over the seeds of runs on all training data; None without one of the numbers.

    >>> run = {"method": "cca", "fraction": 1.0, "mismatched": 0.0, "analysis": {"modality_gap": 0.125}, "test": {}}
    >>> [cell.text for cell in details_table([run], ["cca"]).rows[0]]
    ['cca', '0.12']
    """
    own = {m: [run for run in runs if run["method"] == m and condition_of(run) == DataCondition()] for m in methods}
    known = [
        column
        for column in COLUMNS
        if any(number_at(run, column[1]) is not None for some in own.values() for run in some)
    ]
    if not known:
        return None
    rows = []
    for method, some in own.items():
        cells = []
        for _, path, digits in known:
            values = [value for run in some if (value := number_at(run, path)) is not None]
            cells.append(mean_std_cell(mean_std(values), digits=digits))
        rows.append([method, *cells])
    return table(["method", *(title for title, _, _ in known)], rows)
