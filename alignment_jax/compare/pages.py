"""Writes results and report of a comparison from its folder, finished or not."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import data, report
from alignment_jax.assembly.build import load_source
from alignment_jax.compare import run_records as records
from alignment_jax.compare.result_files import comparison_text, write_results
from alignment_jax.compare.summary import MethodSummary, summarize, summarize_fusion
from alignment_jax.core.errors import AlignmentError

_OVER_BOTH = "The interval of a difference covers the seeds and the test items (a paired bootstrap over both)."
_OVER_SEEDS = (
    "The interval of a difference covers the seeds alone (a paired bootstrap): this metric is not a mean over test "
    "items, or a run has not kept them. Other test items would widen it."
)
_ENOUGH_SEEDS = 3
_FEW_SEEDS = "With fewer than three seeds the intervals are very wide; use --seeds 5."
_EACH = "Each method has its own 95 % interval: of twenty methods without effect, expect one to look better or worse."


def interval_note(rows: Sequence[MethodSummary]) -> str | None:
    """A sentence about the sources of variation that the intervals cover; None where no row has one."""
    known = [row.difference for row in rows if row.difference is not None and row.difference.interval is not None]
    if not known:
        return None
    few = f" {_FEW_SEEDS}" if min(len(row.seeds) for row in rows) < _ENOUGH_SEEDS else ""
    return f"{_OVER_BOTH if all(one.both is not None for one in known) else _OVER_SEEDS} {_EACH}{few}"


def write_outputs(folder: pathlib.Path, about: Mapping[str, Any], *, source: data.PairSource | None = None) -> str:
    """Writes results.csv, results.json, results.tex and report.html, and returns the table for the terminal.

    Args:
      folder: of the comparison.
      about: the content of comparison.json.
      source: the data, for pictures in the galleries; None to load it.

    Raises:
      RunError: a record or a file of a run cannot be read.
      DataError: runs were tested on different items.
    """
    runs, trials = records.read_runs_and_trials(folder)
    runs = [run for run in runs if run["method"] in about["methods"]]
    names = (*about["modalities"], "a", "b")[:2]
    rows = summarize(folder, runs, methods=about["methods"], baseline=about["baseline"], metric=about["metric"])
    fusion = summarize_fusion(folder, runs, methods=about["methods"]) if about.get("task") == "classification" else []
    write_results(folder, about, rows, runs, trials, fusion)
    text = comparison_text(
        rows,
        metric=about["metric"],
        baseline=about["baseline"],
        names=(names[0], names[1]),
        about=about,
        fusion=fusion,
    )
    page = report.write_comparison(
        folder,
        about,
        runs,
        verdicts=[row.to_json() for row in rows],
        images=_images(about, source),
        notes=[note] if (note := interval_note(rows)) is not None else [],
        trials=trials,
        fusion=fusion,
    )
    return f"{text}\nreport: {page}"


def _images(about: Mapping[str, Any], source: data.PairSource | None) -> Any:
    """Function from test item numbers to pictures; None where the data has none or cannot be loaded."""
    if about["task"] != "alignment":
        return None
    try:
        source = load_source(ConfigDict(about["config"])) if source is None else source
        return data.thumbnails(source.splits["test"]) if "test" in source.splits else None
    except AlignmentError:
        return None
