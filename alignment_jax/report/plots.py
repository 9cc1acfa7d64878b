"""Draws line charts, readable without colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from alignment_jax.report.canvas import Palette, canvas, encode_figure, legend_below
from alignment_jax.report.charts import Chart, Series


def draw_chart(chart: Chart, *, dark: bool = False, best_step: int | None = None, image_format: str = "svg") -> bytes:
    """Draws one chart.

    Args:
      chart: what to draw.
      dark: colours for a dark page; the background is transparent.
      best_step: a step to mark with a vertical line.
      image_format: "svg" or "png".

    Returns:
      The picture's bytes; equal input gives equal bytes with the same version of matplotlib.

    Raises:
      MissingPackageError: matplotlib is not installed.
      ValueError: another `image_format`.

    >>> from alignment_jax.report.charts import learning_curves
    >>> (chart,) = learning_curves([{"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.0}])
    >>> draw_chart(chart)[:5]
    b'<?xml'
    """
    with canvas(dark=dark) as (figure, palette):
        axes = figure.add_subplot()
        for number, series in enumerate(chart.series):
            _draw_series(axes, series, number, palette)
        if chart.diagonal:
            axes.axline((0, 0), slope=1, color=palette.ink, linewidth=0.9, linestyle=(0, (2, 3)), label=chart.diagonal)
        _dress(axes, chart, best_step=best_step, ink=palette.ink)
        return encode_figure(figure, image_format)


def _draw_series(axes: Any, series: Series, number: int, palette: Palette) -> None:
    style = palette.line(number if series.style is None else series.style)
    if not np.array_equal(series.low, series.high, equal_nan=True):
        axes.fill_between(series.steps, series.low, series.high, color=style["color"], alpha=0.18, linewidth=0)
    axes.plot(
        series.steps,
        series.values,
        label=series.label,
        **style,
        linewidth=1.8,
        markersize=5,
        # About eight markers per line, staggered, so that lines on top of each other stay visible.
        markevery=(number * 2 % 7 if len(series.steps) > 24 else 0, max(1, len(series.steps) // 8)),
    )


def _dress(axes: Any, chart: Chart, *, best_step: int | None, ink: str) -> None:
    """Titles, units, limits, grid, mark of the best step and legend."""
    axes.set_title(chart.title, loc="left", fontweight="bold")
    axes.set_xlabel(chart.x_label)
    # A single line needs no legend: the axis has its name. The name of a method stays.
    named = any(series.style is not None for series in chart.series)
    alone = len(chart.series) == 1 and chart.limits is None and not chart.diagonal and not named
    axes.set_ylabel(chart.series[0].label if alone else chart.y_label)
    if chart.limits is not None:
        axes.set_ylim(chart.limits[0], chart.limits[1] * 1.02)
        if chart.diagonal:  # both axes have the same unit
            axes.set_xlim(axes.get_ylim())
    if chart.x_ticks:
        if chart.x_log:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks([place for place, _ in chart.x_ticks], [text for _, text in chart.x_ticks])
    elif chart.x_whole:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(True, axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    entries = len(chart.series) + bool(chart.diagonal)
    if best_step is not None:
        axes.axvline(
            best_step, color=ink, linewidth=1.0, linestyle=(0, (2, 3)), label=f"best on val (step {best_step})"
        )
        entries += 1
    if entries > 1 or named:
        legend_below(axes)
