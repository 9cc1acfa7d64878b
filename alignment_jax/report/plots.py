"""Draws charts: readable in black and white and without colour vision, and the same bytes every time."""

from __future__ import annotations

import io
from typing import Any

from alignment_jax.core.optional import require
from alignment_jax.report.charts import Chart

# The palette of Okabe and Ito (2008), ordered for contrast on white and on a dark page. Every line also has its own
# dashes and marker, so that nothing rests on colour alone.
_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DARK = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#FFFFFF")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.4)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    "-",
    (0, (9, 3)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_chart(chart: Chart, *, dark: bool = False, best_step: int | None = None, image_format: str = "svg") -> bytes:
    """Draws one chart.

    Args:
      chart: what to draw.
      dark: light lines for a dark page (the background is transparent) instead of dark ones for a light page.
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
    if image_format not in ("svg", "png"):
        raise ValueError(f"image_format must be 'svg' or 'png', got {image_format!r}")
    matplotlib = require("matplotlib", extra="train", purpose="draw learning curves")
    figures = require("matplotlib.figure", extra="train", purpose="draw learning curves")
    ink, faint, colours = ("#dddddd", "#555555", _DARK) if dark else ("#222222", "#cccccc", _LIGHT)
    settings = {
        **matplotlib.rcParamsDefault,  # a person's own matplotlibrc must not change the report
        "svg.hashsalt": "alignment_jax",
        "svg.fonttype": "path",
        "font.family": ["DejaVu Sans"],  # comes with matplotlib, so it looks the same everywhere
        "font.size": 10,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": faint,
        "text.parse_math": False,  # a "$" in a name is a dollar sign
    }
    settings.pop("backend", None)
    with matplotlib.rc_context(settings):
        # Figure by itself, without pyplot: no window system, no global list of figures.
        figure = figures.Figure(figsize=(5.2, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for number, series in enumerate(chart.series):
            colour = colours[number % len(colours)]
            if series.width > 1:
                axes.fill_between(series.steps, series.low, series.high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(
                series.steps,
                series.values,
                label=series.label,
                color=colour,
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1.8,
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                # Some eight markers a line, staggered, so that lines on top of each other still show.
                markevery=(number * 2 % 7 if len(series.steps) > 24 else 0, max(1, len(series.steps) // 8)),
            )
        _dress(axes, chart, best_step=best_step, ink=ink)
        buffer = io.BytesIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if image_format == "svg" else {"Software": None}
        figure.savefig(buffer, format=image_format, dpi=160, transparent=True, metadata=metadata)
    return buffer.getvalue()


# What fits beside each other below a chart, at the legend's font size.
_LEGEND_CHARACTERS = 84


def _dress(axes: Any, chart: Chart, *, best_step: int | None, ink: str) -> None:
    """Titles, units, limits, grid, the mark of the best step and the legend."""
    axes.set_title(chart.title, loc="left", fontweight="bold")
    axes.set_xlabel(chart.x_label)
    # One line needs no legend: the axis can carry its name.
    alone = len(chart.series) == 1 and chart.limits is None
    axes.set_ylabel(chart.series[0].label if alone else chart.y_label)
    if chart.limits is not None:
        axes.set_ylim(chart.limits[0], chart.limits[1] * 1.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(True, axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    entries = len(chart.series)
    if best_step is not None:
        axes.axvline(
            best_step, color=ink, linewidth=1.0, linestyle=(0, (2, 3)), label=f"best on val (step {best_step})"
        )
        entries += 1
    if entries > 1:
        # Below the axes, where it hides no data.
        longest = max(len(text) for text in axes.get_legend_handles_labels()[1])
        columns = max(1, min(entries, 4, _LEGEND_CHARACTERS // (longest + 6)))  # 6: the line and marker before a label
        axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
