"""Writes the report of one run: `report.html` and its pictures."""

from __future__ import annotations

import math
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax.core.storage import write_bytes_atomic, write_text_atomic
from alignment_jax.report.blocks import (
    bullet_list,
    chart_group,
    joined,
    key_value_table,
    page,
    paragraph,
    picture,
    section,
    word_table,
)
from alignment_jax.report.charts import Chart, learning_curves
from alignment_jax.report.fusion_tables import FusionRow, fusion_table, learning_table
from alignment_jax.report.gallery import Gallery, gallery_html
from alignment_jax.report.machine import format_bytes, format_seconds
from alignment_jax.report.metric_names import as_percent, is_percent, metric_label
from alignment_jax.report.pictures import picture_type
from alignment_jax.report.plots import draw_chart
from alignment_jax.report.subtitle import subtitle
from alignment_jax.report.tables import metric_cell, metrics_table, to_html
from alignment_jax.report.weight_shift import weight_shift

PICTURES = "report_files"
# The metric of the best step when the caller names none: the first one in the history.
_SELECTED_BY = ("val/rsum", "val/accuracy", "val/mAP", "val/nDCG", "val/macro_f1")
_HEADS = " The prediction is the sum of the heads' outputs; the last rows are single heads."
_HUBS = (
    " Skewness of 10-occurrence: how unevenly the ten nearest answers of the queries are distributed over the "
    "candidates; near 0 without hubs."
)
_BALANCE = (
    "The prediction against each modality's own head, with 95 % intervals over the samples of the split. Compare "
    "several seeds (alignment-jax compare) before you rely on a small difference."
)
_NO_STEP = "None: a closed form takes no training step."
_ONE_POINT = "None: the run was evaluated at a single step."


def best_row(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> tuple[int, str, float] | None:
    """The step with the highest value of a validation metric.

    Args:
      history: rows of `metrics.jsonl`.
      metric: its key; None for the first of rsum, accuracy, mAP, nDCG and macro F1 on val that the history holds.

    Returns:
      (step, key, value), the earliest of equal ones; None when no row has a finite value.

    >>> best_row([{"step": 5, "val/rsum": 200.0}, {"step": 10, "val/rsum": 210.0}, {"step": 15, "val/rsum": 210.0}])
    (10, 'val/rsum', 210.0)
    """
    for key in (metric,) if metric is not None else _SELECTED_BY:
        values = [
            (float(row[key]), -int(row["step"]))
            for row in history
            if isinstance(row.get(key), int | float) and math.isfinite(row[key])
        ]
        if values:
            value, step = max(values)
            return -step, key, value
    return None


def write_report(
    workdir: str | os.PathLike[str],
    *,
    title: str,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    results: Mapping[str, Mapping[str, float]],
    history: Sequence[Mapping[str, Any]],
    gallery: Gallery | None = None,
    notes: Sequence[str] = (),
    chance: Mapping[str, Mapping[str, float]] | None = None,
    names: tuple[str, ...] = ("a", "b"),
    best_step: int | None = None,
    best_metric: str | None = None,
    parameters: int | Mapping[str, int] | None = None,
    cost: Mapping[str, float] | None = None,
    fusion: Sequence[FusionRow] = (),
) -> pathlib.Path:
    """Writes `workdir/report.html` and its pictures.

    The page needs no network and no other file; `workdir/report_files/` holds the same pictures as files. Text from
    data is escaped. Equal input gives an equal page. Each write is atomic, the page comes last.

    Args:
      workdir: the run's folder.
      title: the heading.
      config: the run's settings, nested dicts of plain values.
      environment: result of `environment()` at the start of the run.
      results: split to metrics of the best checkpoint, in the order to show ("val", "test").
      history: rows of `metrics.jsonl`.
      gallery: examples to show; None for none.
      notes: sentences needed to read the numbers.
      chance: split to the metrics of a random guess.
      names: of the modalities.
      best_step: the step the results belong to; None to take it from `history`.
      best_metric: key in `history` that selected it; None for the usual ones.
      parameters: number of trainable parameters, or name to number.
      cost: result of `Progress.totals()`: `steps`, `pairs`, `seconds`, `pairs_per_second`, `peak_host_bytes`,
        `peak_device_bytes`; other keys are shown unchanged.
      fusion: of a classifier, one row, see `fusion_tables`; its `method` is the split.

    Returns:
      The path of the page.

    Raises:
      MissingPackageError: matplotlib, pillow or jinja2 is not installed.
      RunError: a file cannot be written.
    """
    folder = pathlib.Path(workdir)
    if gallery is not None:
        gallery = gallery.with_pictures_encoded()
    best = best_row(history, best_metric)
    if best_step is None and best is not None:
        best_step = best[0]
    charts = learning_curves(history, names=names)
    drawn = [(chart, draw_chart(chart, best_step=best_step)) for chart in charts]
    dark = [draw_chart(chart, dark=True, best_step=best_step) for chart in charts]
    _write_pictures(folder / PICTURES, drawn, gallery)
    sections = [
        section("Results", results_section(results, names=names, chance=chance, best_step=best_step)),
        section("Notes", bullet_list(notes)),
        section("Balance of the modalities", balance_section(fusion, names=names)),
        section(
            "Run", run_section(history, best=best, best_step=best_step, parameters=parameters, cost=cost, names=names)
        ),
        section("Learning curves", curves_section(drawn, dark) or _no_curves(history)),
        section("Gallery", gallery_html(gallery, names=names) if gallery is not None and len(gallery.captions) else ""),
        section("Configuration", key_value_table(config)),
        section("Environment", key_value_table(environment, columns=("what", "value"))),
    ]
    seed = [f"seed {config['seed']}"] if isinstance(config.get("seed"), int) else []
    path = folder / "report.html"
    write_text_atomic(path, page(title, sections, subtitle=subtitle(config, environment, first=seed)))
    return path


def results_section(
    results: Mapping[str, Mapping[str, float]],
    *,
    names: tuple[str, ...] = ("a", "b"),
    chance: Mapping[str, Mapping[str, float]] | None = None,
    best_step: int | None = None,
) -> str:
    """The table of metrics with a caption."""
    if not any(results.values()):
        return paragraph("No results yet: the run has not been evaluated.")
    of = "" if best_step is None else f" of step {best_step}, the best on val"
    beside = "; chance is the score of a random ranking or guess" if chance else ""
    total = "; rsum is the sum of the recalls" if any("rsum" in metrics for metrics in results.values()) else ""
    heads = _HEADS if any("accuracy_fused" in metrics for metrics in results.values()) else ""
    hubs = _HUBS if any("a2b_skewness" in metrics for metrics in results.values()) else ""
    caption = f"The checkpoint{of}{beside}{total}.{heads}{hubs}"
    return to_html(metrics_table(results, names=names, chance=chance), caption=caption)


def balance_section(fusion: Sequence[FusionRow], *, names: tuple[str, ...]) -> str:
    """The verdict on the fusion of a classifier with its tables; "" without rows."""
    if not fusion:
        return ""
    tables = fusion_table(fusion, names, first="split"), learning_table(fusion, names, first="split")
    return joined([paragraph(_BALANCE), *(word_table(found) for found in tables)])


def run_section(
    history: Sequence[Mapping[str, Any]],
    *,
    best: tuple[int, str, float] | None = None,
    best_step: int | None = None,
    parameters: int | Mapping[str, int] | None = None,
    cost: Mapping[str, float] | None = None,
    names: tuple[str, ...] = ("a", "b"),
) -> str:
    """Best step, number of parameters, how far the direction weights moved, and cost."""
    rows: dict[str, Any] = {}
    if best is not None and best_step in (None, best[0]):
        step, key, value = best
        shown = as_percent(_row_of(history, step, key)).get(key, value)
        unit = " %" if is_percent(key) and not key.endswith("rsum") else ""
        rows["best step on val"] = (
            f"{step:,} ({metric_label(key.rpartition('/')[2], names)} {metric_cell(key, shown).text}{unit})"
        )
    elif best_step is not None:
        rows["best step on val"] = f"{best_step:,}"
    if isinstance(parameters, Mapping):
        rows |= {f"parameters, {name}": f"{number:,}" for name, number in parameters.items()}
    elif parameters is not None:
        rows["trainable parameters"] = f"{parameters:,}"
    if moved := weight_shift(history):
        rows["weights of the directions"] = f"at most {moved['largest']:.3f} from 1, {moved['mean']:.3f} on average"
    rows |= _cost_rows(history, dict(cost or {}))
    return key_value_table(rows, columns=("what", "value"))


def _row_of(history: Sequence[Mapping[str, Any]], step: int, key: str) -> dict[str, float]:
    """The numbers of the row with `key` at `step`; its other metrics decide whether `key` is a fraction."""
    for row in history:
        if row.get("step") == step and key in row:
            return {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {}


def _cost_rows(history: Sequence[Mapping[str, Any]], cost: dict[str, Any]) -> dict[str, str]:
    steps = cost.pop("steps", None) or max((int(row["step"]) for row in history if "step" in row), default=None)
    pairs, seconds = cost.pop("pairs", None), cost.pop("seconds", None)
    speed = cost.pop("pairs_per_second", None) or (pairs / seconds if pairs and seconds else None)
    rows = {}
    if steps is not None:
        rows["steps"] = f"{int(steps):,}"
    if pairs is not None:
        rows["pairs seen"] = f"{int(pairs):,}"
    if seconds is not None:
        rows["wall time"] = format_seconds(seconds)
    if speed is not None:
        rows["speed"] = f"{speed:,.0f} pairs/s"
    for key, label in (("peak_host_bytes", "host memory, peak"), ("peak_device_bytes", "device memory, peak")):
        if (size := cost.pop(key, None)) is not None:
            rows[label] = format_bytes(size)
    return rows | {key.replace("_", " "): str(value) for key, value in cost.items()}


def curves_section(drawn: Sequence[tuple[Chart, bytes]], dark: Sequence[bytes]) -> str:
    """The charts side by side, below each other on a phone."""
    figures = []
    for (chart, light), night in zip(drawn, dark, strict=True):
        lines = ", ".join(series.label for series in chart.series)
        ends = "; ".join(f"{line.label} ends at {line.values[-1]:.4g}" for line in chart.series)
        figures.append(
            picture(
                light,
                night,
                description=f"{chart.title}: {chart.y_label} of {lines} over {chart.x_label}; {ends}.",
                caption=chart.note,
                file=f"{PICTURES}/{urllib.parse.quote(_chart_file(chart))}",
            )
        )
    return chart_group(figures)


def _no_curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Why an evaluated run has no curves; "" for a run without evaluation."""
    steps = {int(row["step"]) for row in history if "step" in row and len(row) > 2}
    if not steps:
        return ""
    return paragraph(_NO_STEP if steps == {0} else _ONE_POINT)


def _chart_file(chart: Chart) -> str:
    return f"{chart.name}.svg"


def _write_pictures(folder: pathlib.Path, drawn: Sequence[tuple[Chart, bytes]], gallery: Gallery | None) -> None:
    """Saves the pictures of the page and deletes those of an earlier report."""
    wanted = {folder / _chart_file(chart): data for chart, data in drawn}
    for item, data in ((gallery.images or {}) if gallery is not None else {}).items():
        suffix = "png" if picture_type(data) == "png" else "jpg"
        wanted[folder / "gallery" / f"{item:06d}.{suffix}"] = data
    for path, data in wanted.items():
        write_bytes_atomic(path, data)
    for old in [*folder.glob("*.svg"), *(folder / "gallery").glob("[0-9]*.*")]:
        if old not in wanted:
            old.unlink()
