"""The charts of a comparison as data; `plots` draws them. A method has the same colour in every chart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alignment_jax.report.charts import Chart, Series
from alignment_jax.report.comparison_runs import Comparison, MeanStd, mean_std, number_at
from alignment_jax.report.metric_names import direction_label, is_percent, metric_label

# Kind of noise -> (title, unit of its strength); {0} is the name of the modality.
NOISES = {
    "latent_noise": ("Noise on {0} latents", "noise [standard deviations of the latents]"),
    "caption_drop": ("Words dropped", "share of the words"),
    "caption_swap": ("Words swapped", "share of the words"),
    "caption_replace": ("Words replaced", "share of the words"),
    "image_gaussian": ("Gaussian noise on images", "standard deviation [share of the full range]"),
    "image_blur": ("Blurred images", "width of the blur [share of the shorter side]"),
    "image_occlusion": ("Images partly hidden", "share of the area"),
    "image_jpeg": ("JPEG compression", "1 - quality / 100"),
}
BAND = "Shaded: one standard deviation over seeds, up and down."
WHISKER = "Thin line on a bar: one standard deviation over seeds, up and down."
_ANCHORS = (
    "Shaded: minimum to maximum over the anchors of a batch (mean over seeds) where each anchor has its temperature; "
    "else one standard deviation over seeds."
)
# A line a few hundred pixels wide cannot show more points.
_MOST_POINTS = 200


def _line(label: str, points: Sequence[tuple[float, MeanStd | None]], style: int) -> Series | None:
    """Means with the band of one standard deviation, over the points that have any run."""
    known = [(x, found) for x, found in points if found is not None]
    if not known:
        return None
    x = np.array([place for place, _ in known], np.float64)
    mean = np.array([found.mean for _, found in known])
    sd = np.array([found.std or 0.0 for _, found in known])
    return Series(label, x, mean, mean - sd, mean + sd, style=style)


def _with_lines(chart: Chart, lines: Iterable[Series | None]) -> Chart | None:
    """The chart with its lines and a note on their bands; None without lines."""
    found = tuple(line for line in lines if line is not None)
    banded = any(not np.array_equal(line.low, line.high, equal_nan=True) for line in found)
    note = chart.note or (BAND if banded else "")
    return Chart(**{**vars(chart), "series": found, "note": note}) if found else None


def metric_axis(key: str, names: tuple[str, str]) -> str:
    """A metric with its unit, for an axis."""
    return metric_label(key, names) + (" [%]" if is_percent(key) else "")


def data_efficiency(comparison: Comparison) -> Chart | None:
    """The metric over the share of the training samples; None for a single share."""
    if len(comparison.fractions) < 2:
        return None
    value = number_at("test", comparison.metric)
    chart = Chart(
        "data_efficiency",
        "How much data each method needs",
        "share of the training samples",
        f"test {metric_axis(comparison.metric, comparison.names)}",
        (),
        x_ticks=tuple((fraction, f"{100 * fraction:.3g} %") for fraction in comparison.fractions),
        x_log=True,
    )
    return _with_lines(
        chart,
        (
            _line(
                method,
                [
                    (fraction, comparison.mean_std(method, value, fraction=fraction))
                    for fraction in comparison.fractions
                ],
                number,
            )
            for number, method in enumerate(comparison.methods)
        ),
    )


def mismatched_pairs(comparison: Comparison) -> Chart | None:
    """The metric over the share of mismatched training pairs; None without such runs."""
    if len(comparison.shares) < 2:
        return None
    value = number_at("test", comparison.metric)
    chart = Chart(
        "mismatched_pairs",
        "Mismatched pairs in training",
        "share of the training pairs that do not belong together",
        f"test {metric_axis(comparison.metric, comparison.names)}",
        (),
        x_ticks=tuple((share, f"{100 * share:.3g} %") for share in comparison.shares),
    )
    return _with_lines(
        chart,
        (
            _line(
                method,
                [(share, comparison.mean_std(method, value, mismatched=share)) for share in comparison.shares],
                number,
            )
            for number, method in enumerate(comparison.methods)
        ),
    )


def search_chart(comparison: Comparison) -> Chart | None:
    """The running best value on val over the trials of each method; None without a search."""
    names, metric = comparison.names, comparison.metric
    chart = Chart("search", "Search on val", "trials", f"best val {metric_axis(metric, names)} so far", ())
    lines = []
    for number, method in enumerate(comparison.methods):
        trials = sorted((t for t in comparison.trials if t["method"] == method), key=lambda t: t["trial"])
        means = [found.mean for trial in trials if (found := mean_std(trial["values"]))]
        if means:
            best = np.maximum.accumulate(means)
            lines.append(Series(method, np.arange(1.0, len(best) + 1), best, best, best, style=number))
    return _with_lines(chart, lines) if max((len(line.steps) for line in lines), default=0) > 1 else None


def values_by_step(comparison: Comparison, key: str, method: str) -> dict[float, list[float]]:
    """Step -> logged values of all seeds of a method, for the steps that every seed logged."""
    runs = comparison.of(method)
    found: dict[float, list[float]] = {}
    for run in runs:
        row_of = {row["step"]: row[key] for row in comparison.history(run) if isinstance(row.get(key), int | float)}
        for step, value in row_of.items():
            found.setdefault(float(step), []).append(float(value))
    full = {step: found[step] for step in sorted(found) if len(found[step]) == len(runs)}
    stride = -(-len(full) // _MOST_POINTS) if full else 1
    return dict(list(full.items())[::stride])


def _curve(comparison: Comparison, key: str, method: str, number: int, *, label: str | None = None) -> Series | None:

    points = [(step, mean_std(values)) for step, values in values_by_step(comparison, key, method).items()]
    return _line(label or method, points, number)


def training_curves(comparison: Comparison) -> list[Chart]:
    """The metric on val, direction weights and temperatures over training: means over seeds with their bands."""
    names, methods = comparison.names, comparison.methods
    charts = [
        _val_curves(comparison),
        _with_lines(
            Chart(
                "weight_ab",
                f"Weight of the direction {direction_label('a2b', names)}",
                "training step",
                "weight (the other direction: 2 minus it)",
                (),
            ),
            (
                line
                for number, method in enumerate(methods)
                if (line := _curve(comparison, "train/weight_ab", method, number)) and not _constant(line, 1.0)
            ),
        ),
        _with_lines(
            Chart("temperature", "Temperature", "training step", "temperature (no unit)", (), note=_ANCHORS),
            (_temperature(comparison, method, number) for number, method in enumerate(methods)),
        ),
    ]
    # One point makes no curve.
    return [chart for chart in charts if chart is not None and any(len(line.steps) > 1 for line in chart.series)]


def _val_curves(comparison: Comparison) -> Chart | None:
    """The metric on val of the methods with several evaluations; the note names the others."""
    metric, names = comparison.metric, comparison.names
    chart = Chart(f"val_{metric}", "Learning curves", "training step", f"val {metric_axis(metric, names)}", ())
    found = [_curve(comparison, f"val/{metric}", method, number) for number, method in enumerate(comparison.methods)]
    lines = [line for line in found if line is not None]
    full = _with_lines(chart, [line for line in lines if len(line.steps) > 1])
    if full is None:
        return None
    points = {line.label: line.steps.tolist() for line in lines if len(line.steps) == 1}
    remarks = [
        f"{words}: {', '.join(those)}."
        for words, those in (
            ("No curve (closed form)", [m for m, at in points.items() if at == [0.0]]),
            ("No curve (evaluated once)", [m for m, at in points.items() if at != [0.0]]),
        )
        if those
    ]
    return dataclasses.replace(full, note=" ".join(filter(None, [full.note, *remarks])))


def _constant(line: Series, value: float) -> bool:
    return bool(np.all(line.values == value))


def _temperature(comparison: Comparison, method: str, number: int) -> Series | None:
    """The mean over anchors; the band spans the lowest to the highest anchor, where temperatures differ."""
    mean = _curve(comparison, "train/temperature_mean", method, number)
    low, high = (_curve(comparison, f"train/temperature_{which}", method, number) for which in ("min", "max"))
    if mean is None or low is None or high is None or len({len(line.steps) for line in (mean, low, high)}) > 1:
        return mean
    return Series(method, mean.steps, mean.values, low.values, high.values, style=number)


def noise_curves(comparison: Comparison) -> list[Chart]:
    """The metric over the strength of each kind of noise at test time."""
    charts = []
    for kind, side in noise_kinds(comparison):
        title, unit = NOISES.get(kind, (kind.replace("_", " "), "strength"))
        name = comparison.names[side == "b"]
        lines = []
        for number, method in enumerate(comparison.methods):
            points: dict[float, list[float | None]] = {}
            for run in comparison.of(method):
                for row in (run.get("analysis") or {}).get("stress") or ():
                    if row["kind"] == "clean" or (row["kind"], row["side"]) == (kind, side):
                        points.setdefault(float(row["strength"]), []).append(row["metrics"].get(comparison.metric))

            lines.append(_line(method, [(x, mean_std(values)) for x, values in sorted(points.items())], number))
        chart = Chart(
            f"noise_{kind}_{side}",
            title.format(name),
            unit,
            f"test {metric_axis(comparison.metric, comparison.names)}",
            (),
            x_whole=False,
        )
        if (full := _with_lines(chart, lines)) is not None:
            charts.append(full)
    return charts


def noise_kinds(comparison: Comparison) -> list[tuple[str, str]]:
    """(kind, side) of every noise in the runs at full data, in the order of the rows."""
    found: dict[tuple[str, str], None] = {}
    for method in comparison.methods:
        for run in comparison.of(method):
            for row in (run.get("analysis") or {}).get("stress") or ():
                if row["kind"] != "clean":
                    found[(str(row["kind"]), str(row["side"]))] = None
    return list(found)


def reliability_charts(comparison: Comparison) -> list[Chart]:
    """Reliability diagrams of both directions: accuracy over confidence, pooled over seeds."""
    charts = []
    for direction in ("a2b", "b2a"):
        lines = []
        for number, method in enumerate(comparison.methods):
            bins: dict[float, list[tuple[int, float, float]]] = {}
            for run in comparison.of(method):
                table = ((run.get("analysis") or {}).get("calibration") or {}).get("bins") or {}
                for row in table.get(direction) or ():
                    bins.setdefault(row["low"], []).append((row["count"], row["confidence"], row["accuracy"]))
            if not bins:
                continue
            points = [
                np.average(np.array(rows)[:, 1:], axis=0, weights=np.array(rows)[:, 0])
                for _, rows in sorted(bins.items())
            ]
            x, y = np.array(points).T
            lines.append(Series(method, x, y, y, y, style=number))
        if lines:
            label = direction_label(direction, comparison.names)
            charts.append(
                Chart(
                    f"reliability_{direction}",
                    f"Confidence and accuracy, {label}",
                    "confidence of the answer",
                    "share of right answers",
                    tuple(lines),
                    limits=(0.0, 1.0),
                    x_whole=False,
                    diagonal="perfectly calibrated",
                )
            )
    return charts


def balance_curves(comparison: Comparison) -> list[Chart]:
    """Accuracy of each modality alone and fused over training, a chart a method, and the gap between the modalities."""
    names = comparison.names
    keys = {"accuracy_a": f"{names[0]} alone", "accuracy_b": f"{names[1]} alone"}
    keys["accuracy_c"] = f"{comparison.third} alone"
    charts = []
    for method in comparison.methods:
        chart = Chart(f"balance_{method}", f"Balance: {method}", "training step", "val accuracy [%]", (), (0.0, 100.0))
        labels = {**keys, "accuracy": "prediction"}
        found = _with_lines(
            chart,
            (
                _curve(comparison, f"val/{key}", method, number, label=label)
                for number, (key, label) in enumerate(labels.items())
            ),
        )
        if found is not None and len(found.series) > 1:
            charts.append(found)
    gaps = [_gap(comparison, method, number) for number, method in enumerate(comparison.methods)]
    title = "Gap between the modalities"
    gap = _with_lines(Chart("gap", title, "training step", "best minus worst modality [points]", ()), gaps)
    return [*([gap] if gap is not None else []), *charts]


def _gap(comparison: Comparison, method: str, number: int) -> Series | None:

    values: dict[float, list[float]] = {}
    runs = comparison.of(method)
    for run in runs:
        for row in comparison.history(run):
            single = [
                row[key] for key in ("val/accuracy_a", "val/accuracy_b", "val/accuracy_c") if _number(row.get(key))
            ]
            if len(single) > 1:
                values.setdefault(float(row["step"]), []).append(max(single) - min(single))
    points = [(step, mean_std(found)) for step, found in sorted(values.items()) if len(found) == len(runs)]
    return _line(method, points, number)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
