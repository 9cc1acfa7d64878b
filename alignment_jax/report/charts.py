"""The charts of one run as data; `plots` draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.report.metric_names import as_percent, direction_label, in_reading_order, is_percent, metric_label

# A line a few hundred pixels wide cannot show more points.
_MOST_POINTS = 240


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: values over steps, and the shaded range around it.

    width: logged values averaged in each point. style: number of its line style, for the same style in several charts;
    None for its position in this one.
    """

    label: str
    steps: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    width: int = 1
    style: int | None = None


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines that share their axes. `name` becomes the file name; `limits` fixes the vertical axis.

    x_ticks: (position, text) of the ticks, automatic when empty; x_log: logarithmic axis; x_whole: integer ticks only.
    diagonal: label of the line y = x, "" for none.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    limits: tuple[float, float] | None = None
    note: str = ""
    x_ticks: tuple[tuple[float, str], ...] = ()
    x_log: bool = False
    x_whole: bool = True
    diagonal: str = ""


def series_of(history: Sequence[Mapping[str, Any]], key: str, *, label: str | None = None) -> Series | None:
    """The values of one metric over the steps, averaged in groups where there are too many to draw.

    Args:
      history: rows of `metrics.jsonl`.
      key: the metric.
      label: legend entry; None for `key`.

    Returns:
      The series; None when no row has the metric. The last of several rows of a step counts; non-finite values are
      gaps.

    >>> series_of([{"step": 2, "loss": 1.5}, {"step": 1, "loss": 2.0}], "loss").values
    array([2. , 1.5])
    """
    found: dict[int, float] = {}
    for row in history:
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or "step" not in row:
            continue
        found[int(row["step"])] = float(value)
    if not found:
        return None
    steps = np.array(sorted(found), np.float64)
    values = np.array([found[int(step)] for step in steps], np.float64)
    values[~np.isfinite(values)] = np.nan
    width = -(-len(steps) // _MOST_POINTS)
    if width == 1:
        return Series(label or key, steps, values, values, values)
    groups = [slice(begin, begin + width) for begin in range(0, len(steps), width)]
    # A group with a gap is a gap: a mean without the NaN would hide a failure of the run.
    means, lows, highs = (np.array([reduce(values[group]) for group in groups]) for reduce in (np.mean, np.min, np.max))
    return Series(label or key, np.array([steps[group].mean() for group in groups]), means, lows, highs, width)


def learning_curves(
    history: Sequence[Mapping[str, Any]], *, names: tuple[str, ...] = ("a", "b"), split: str = "val"
) -> list[Chart]:
    """The charts of a history: loss, recalls by direction, other scores, direction weights, temperature.

    Args:
      history: rows of `metrics.jsonl`.
      names: of the modalities.
      split: the split whose scores to draw.

    Returns:
      Charts in reading order, each of at least two points; an empty list for an empty history.

    >>> rows = [{"step": step, "train/loss": 1 / step, "val/a2b_R@1": 9.0} for step in (1, 2)]
    >>> [chart.name for chart in learning_curves(rows, names=("image", "text"))]
    ['loss', 'recall_a2b']
    """
    keys = list(dict.fromkeys(key for row in history for key in row))
    charts = []

    def add(name: str, title: str, y_label: str, wanted: Mapping[str, str], limits=None) -> None:
        lines: list[Series] = []
        for key, label in wanted.items():
            line = series_of(history, key, label=label)
            # A line on top of another one adds nothing (minimum and maximum of one temperature).
            if line is not None and not any(_same(line, other) for other in lines):
                lines.append(line)
        # One point makes no curve: a closed form, or a run with one evaluation.
        if any(len(line.steps) > 1 for line in lines):
            charts.append(Chart(name, title, "training step", y_label, tuple(lines), limits, _note(lines)))

    losses = [key for key in keys if key.rpartition("/")[2].startswith("loss") and "/" in key]
    # A single split needs no name.
    alone = len({key.rpartition("/")[0] for key in losses}) == 1
    add("loss", "Loss", "loss", {key: metric_label(key.rpartition("/")[2] if alone else key, names) for key in losses})
    scores = [key for key in in_reading_order(keys) if key.startswith(f"{split}/") and is_percent(key)]
    history = [{**row, **as_percent({key: row[key] for key in scores if _number(row.get(key))})} for row in history]
    for direction in ("a2b", "b2a"):
        recalls = {key: f"R@{key.rpartition('@')[2]}" for key in scores if key.startswith(f"{split}/{direction}_R@")}
        title = f"Recall on {split}, {direction_label(direction, names)}"
        add(f"recall_{direction}", title, "recall [%]", recalls, (0.0, 100.0))
    others = [key for key in scores if "_R@" not in key and not key.endswith("/rsum")]
    labels = {key: metric_label(key.rpartition("/")[2], names) for key in others}
    add("scores", f"Scores on {split}", "score [%]", labels, (0.0, 100.0))
    weights = {f"train/weight_{short}": direction_label(long, names) for short, long in (("ab", "a2b"), ("ba", "b2a"))}
    if any(row.get(key, 1.0) != 1.0 for row in history for key in weights):  # fixed weights need no chart
        add("weights", "Weight of each direction", "weight (the two sum to 2)", weights)
    temperatures = {f"train/temperature_{which}": f"temperature {which}" for which in ("mean", "min", "max")}
    add("temperature", "Temperature", "temperature (no unit)", temperatures)
    return charts


def _same(line: Series, other: Series) -> bool:
    return np.array_equal(line.steps, other.steps) and np.array_equal(line.values, other.values, equal_nan=True)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _note(lines: Sequence[Series]) -> str:
    """The note below a chart: averaging and gaps."""
    remarks = []
    if (width := max(line.width for line in lines)) > 1:
        remarks.append(f"Points are means of up to {width} logged values; shaded: their range.")
    gaps = sum(int(np.isnan(line.values).sum()) for line in lines)
    if gaps:
        remarks.append(f"Gaps: values that are not finite ({gaps}).")
    return " ".join(remarks)
