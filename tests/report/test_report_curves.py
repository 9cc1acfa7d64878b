"""Charts hold the history's numbers; drawings are the same every time and do not rest on colour."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from alignment_jax.core.errors import MissingPackageError
from alignment_jax.report import draw_chart, learning_curves, series_of


def _history(steps=20):
    rows = []
    for step in range(1, steps + 1):
        rows.append(
            {"step": step, "epoch": 0, "train/loss": 1.0 / step, "train/weight_ab": 1.1, "train/weight_ba": 0.9}
        )
        if step % 5 == 0:
            recalls = {f"val/{d}_R@{k}": float(step + k) for d in ("a2b", "b2a") for k in (1, 5, 10)}
            rows.append({"step": step, **recalls, "val/rsum": 100.0, "val/loss": 0.5})
    return rows


def _text(svg):
    """The words of a drawing: matplotlib notes each text it draws as paths in a comment."""
    return re.findall(r"<!-- (.*?) -->", svg.decode())


def test_the_charts_a_retrieval_run_has():
    charts = {chart.name: chart for chart in learning_curves(_history(), names=("image", "text"))}
    assert list(charts) == ["loss", "recall_a2b", "recall_b2a", "weights"]
    assert [line.label for line in charts["loss"].series] == ["train: loss", "val: loss"]
    assert [line.label for line in charts["recall_b2a"].series] == ["R@1", "R@5", "R@10"]
    assert charts["recall_b2a"].title == "Recall on val, text → image"
    assert charts["recall_b2a"].y_label == "recall [%]"
    np.testing.assert_array_equal(charts["recall_a2b"].series[1].values, [10.0, 15.0, 20.0, 25.0])
    np.testing.assert_array_equal(charts["recall_a2b"].series[1].steps, [5, 10, 15, 20])


def test_the_charts_a_classification_run_has():
    rows = [{"step": step, "val/accuracy": 50.0 + step, "val/accuracy_a": 40.0} for step in (1, 2)]
    (chart,) = learning_curves(rows, names=("audio", "image"))
    assert chart.name == "scores"
    assert [line.label for line in chart.series] == ["accuracy", "accuracy, audio alone"]


def test_losses_are_named_by_their_heads():
    keys = ("loss", "loss_a", "loss_b", "loss_c", "loss_fused")
    rows = [{"step": step, **{f"train/{key}": step + k for k, key in enumerate(keys)}} for step in (1, 2)]
    (chart,) = learning_curves(rows, names=("colour", "flow", "depth"))
    heads = ["loss, colour head", "loss, flow head", "loss, depth head", "loss, head of colour, flow and depth"]
    assert [line.label for line in chart.series] == ["loss", *heads]
    rows = [{"step": step, "train/loss_ab": 1.0, "train/loss_ba": 2.0} for step in (1, 2)]
    (chart,) = learning_curves(rows, names=("image", "text"))
    assert [line.label for line in chart.series] == ["loss, image → text", "loss, text → image"]


def test_a_single_point_is_no_curve():
    point = {"step": 0, "val/a2b_R@1": 40.0, "val/rsum": 40.0}
    assert learning_curves([point]) == []
    losses = [{"step": step, "train/loss": 1.0 / step} for step in (1, 2)]
    assert [chart.name for chart in learning_curves([*losses, point])] == ["loss"]


def test_fractions_are_drawn_in_percent():
    (chart,) = learning_curves([{"step": step, "val/mAP": 0.5, "val/nDCG": 0.25} for step in (1, 2)])
    assert [line.values[0] for line in chart.series] == [50.0, 25.0]


def test_no_history_no_charts():
    assert learning_curves([]) == []
    assert learning_curves([{"step": 1, "note": "x"}]) == []


def test_the_last_row_of_a_step_counts():
    assert series_of([{"step": 1, "x": 1.0}, {"step": 1, "x": 2.0}], "x").values.tolist() == [2.0]


def test_non_finite_values_leave_a_gap_and_are_reported():
    rows = [{"step": step, "train/loss": math.nan if step == 2 else 1.0} for step in (1, 2, 3)]
    (chart,) = learning_curves(rows)
    assert np.isnan(chart.series[0].values).tolist() == [False, True, False]
    assert "not finite" in chart.note


def test_long_histories_are_averaged_and_say_so():
    rows = [{"step": step, "train/loss": float(step % 2)} for step in range(1, 10_001)]
    (chart,) = learning_curves(rows)
    (line,) = chart.series
    assert len(line.values) <= 240
    np.testing.assert_allclose(line.values[:-1], 0.5, atol=0.02)
    assert line.low.min() == 0.0
    assert line.high.max() == 1.0
    assert str(line.width) in chart.note
    assert len(draw_chart(chart)) < 200_000


@pytest.mark.costly
@pytest.mark.parametrize("image_format", ["svg", "png"])
def test_drawings_are_the_same_bytes_every_time(image_format):
    chart = learning_curves(_history())[1]
    first = draw_chart(chart, best_step=10, image_format=image_format)
    assert first == draw_chart(chart, best_step=10, image_format=image_format)
    assert first != draw_chart(chart, best_step=15, image_format=image_format)


@pytest.mark.slow
def test_drawings_are_the_same_in_another_process_and_with_another_matplotlibrc(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.grid: True\nbackend: svg\n")
    code = (
        "import sys; from alignment_jax.report import draw_chart, learning_curves;"
        "sys.stdout.buffer.write(draw_chart(learning_curves([{'step': s, 'train/loss': 1.0 / s} for s in (1, 2)])[0]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path).stdout
    assert other == draw_chart(learning_curves([{"step": s, "train/loss": 1.0 / s} for s in (1, 2)])[0])


def test_a_drawing_has_title_units_legend_and_the_best_step():
    words = _text(draw_chart(learning_curves(_history(), names=("image", "text"))[1], best_step=10))
    for expected in (
        "Recall on val, image → text",
        "training step",
        "recall [%]",
        "R@1",
        "R@10",
        "best on val (step 10)",
    ):
        assert expected in words


def test_lines_differ_without_colour():
    svg = draw_chart(learning_curves(_history())[1]).decode()
    drawn = re.findall(r'<g id="line2d_\d+">\s*<path d="[^"]*" clip-path="[^"]*" style="(fill: none;[^"]*)"', svg)
    # Width 1.8 separates the curves from the grid; without their colour they must still be three different styles.
    styles = {re.sub(r"stroke: #\w+", "", style) for style in drawn if "stroke-width: 1.8" in style}
    assert len(styles) == 3
    markers = re.findall(r'<path id="m\w+" d="([^"]*)" style="stroke: #(?!222222)', svg)
    assert len(set(markers)) == 3


def test_dark_drawings_are_transparent_and_light():
    svg = draw_chart(learning_curves(_history())[0], dark=True).decode()
    assert "fill: #ffffff" not in svg
    assert "#222222" not in svg
    assert "#dddddd" in svg


def test_drawings_refer_to_no_address():
    svg = draw_chart(learning_curves(_history())[0], best_step=5).decode()
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg.split("<svg", 1)[1])
    assert "http" not in without_namespaces.replace("http://www.w3.org/1999/02/22-rdf-syntax-ns#", "")
    assert set(re.findall(r'xlink:href="(.)', svg)) == {"#"}


def test_a_dollar_sign_is_a_dollar_sign():
    rows = [{"step": 1, "train/loss_$x^": 1.0}, {"step": 2, "train/loss_$x^": 0.5}]
    assert "loss_$x^" in _text(draw_chart(learning_curves(rows)[0]))


def test_long_labels_of_a_legend_stay_apart():
    import itertools

    from alignment_jax.report.canvas import shortened_labels

    stem, end = "probabilistic+smoothing+modest_align+", "+and_a_last_part_that_all_of_them_have_in_common"
    for labels in ([stem + "one" * 9, stem + "two" * 9], [f"{stem}{k}{end}" for k in range(12)], ["a", stem * 2]):
        found = shortened_labels(labels)
        assert all(len(text) <= 40 for text in found)
        assert all(one != other for one, other in itertools.combinations(found, 2))
    assert shortened_labels(["vals", "vals"]) == ["vals", "vals"]


@pytest.mark.parametrize("labels", [["accuracy, audio and image"] * 6, ["m" * 20] * 3, ["i"] * 30, ["vals"]])
def test_no_legend_is_cut_at_the_edge(labels):
    from alignment_jax.report.canvas import canvas, legend_below

    with canvas() as (figure, _):
        axes = figure.add_subplot()
        for label in labels:
            axes.plot([0, 1], label=label)
        legend_below(axes)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        frame = legend.get_window_extent()
        assert frame.x0 >= 0
        assert frame.x1 <= figure.bbox.x1


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="'pdf'"):
        draw_chart(learning_curves(_history())[0], image_format="pdf")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"alignment_jax\[train\]"):
        draw_chart(learning_curves(_history())[0])
