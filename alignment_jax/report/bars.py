"""Draws grouped bar charts with error bars and a hatching per method."""

from __future__ import annotations

import dataclasses

import numpy as np

from alignment_jax.report.canvas import canvas, encode_figure, legend_below
from alignment_jax.report.comparison_runs import MeanStd


@dataclasses.dataclass(frozen=True)
class Bars:
    """Bars that share their axes. `name` becomes the file name.

    groups: labels of the groups. bars: label -> mean and deviation in each group, None for no bar.
    """

    name: str
    title: str
    y_label: str
    groups: tuple[str, ...]
    bars: dict[str, tuple[MeanStd | None, ...]]
    note: str = ""

    @property
    def wide(self) -> bool:
        """Whether the bars need a wide chart to keep their hatching visible."""
        return len(self.bars) * len(self.groups) > 12


def draw_bars(chart: Bars, *, dark: bool = False, image_format: str = "svg") -> bytes:
    """Draws one bar chart; error bars are one standard deviation up and down.

    Args:
      chart: what to draw.
      dark: for a dark page.
      image_format: "svg" or "png".

    Returns:
      The picture's bytes.

    Raises:
      MissingPackageError: matplotlib is not installed.
      ValueError: another `image_format`.

    >>> chart = Bars("ece", "Calibration", "error", ("all",), {"baseline": (MeanStd(0.1, 0.02, 3),)})
    >>> draw_bars(chart)[:5]
    b'<?xml'
    """
    count = len(chart.bars)
    with canvas(width=10.4 if chart.wide else 5.2, dark=dark) as (figure, palette):
        axes = figure.add_subplot()
        width = 0.84 / count
        for number, (label, found) in enumerate(chart.bars.items()):
            known = [(place, value) for place, value in enumerate(found) if value is not None]
            if not known:
                continue
            x = np.array([place for place, _ in known]) + (number - (count - 1) / 2) * width
            axes.bar(x, [value.mean for _, value in known], width, label=label, **palette.bar(number))
            sd = [value.std or 0.0 for _, value in known]
            axes.errorbar(x, [value.mean for _, value in known], sd, fmt="none", ecolor=palette.ink, elinewidth=1.1)
        axes.set_title(chart.title, loc="left", fontweight="bold")
        axes.set_ylabel(chart.y_label)
        axes.set_xticks(range(len(chart.groups)), list(chart.groups))
        axes.tick_params(axis="x", length=0)
        axes.grid(True, axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        if count > 1:
            legend_below(axes)
        return encode_figure(figure, image_format)
