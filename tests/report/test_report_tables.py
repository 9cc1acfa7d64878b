"""Tables have equal content in three notations, and no text breaks out of a cell."""

import itertools
import math

import numpy as np
import pytest

from alignment_jax.report import (
    Cell,
    Table,
    as_percent,
    chance_recall,
    metric_label,
    metrics_table,
    table,
    to_html,
    to_markdown,
    to_plain,
)

RESULTS = {
    "val": {"rsum": 409.26, "b2a_R@1": 41.5, "a2b_R@10": 86.8, "a2b_R@1": 43.25, "loss": 1.23456},
    "test": {"a2b_R@1": 40.4},
}


def test_metrics_are_in_reading_order_with_one_decimal():
    made = metrics_table(RESULTS, names=("image", "text"))
    assert made.columns == ("metric", "val", "test")
    assert [[cell.text for cell in row] for row in made.rows] == [
        ["image → text R@1 [%]", "43.2", "40.4"],
        ["image → text R@10 [%]", "86.8", "–"],
        ["text → image R@1 [%]", "41.5", "–"],
        ["rsum [%]", "409.3", "–"],
        ["loss", "1.235", "–"],
    ]


def test_chance_shares_a_column_only_where_it_is_the_same():
    results = {"val": {"a2b_R@1": 40.0}, "test": {"a2b_R@1": 41.0}}
    same = {"val": {"a2b_R@1": 1.0}, "test": {"a2b_R@1": 1.0}}
    other = {"val": {"a2b_R@1": 2.0}, "test": {"a2b_R@1": 1.0}}
    assert metrics_table(results, chance=same).columns == ("metric", "val", "test", "chance")
    made = metrics_table(results, chance=other)
    assert made.columns == ("metric", "val", "chance (val)", "test", "chance (test)")
    assert [cell.text for cell in made.rows[0][1:]] == ["40.0", "2.0", "41.0", "1.0"]
    only_test = metrics_table(results, chance={"test": {"a2b_R@1": 1.0}})
    assert only_test.columns == ("metric", "val", "test", "chance (test)")


def test_corrected_metrics_have_their_own_column():
    results = {"test": {"rsum": 400.0, "a2b_skewness": 0.9, "corrected/rsum": 410.0, "corrected/a2b_skewness": 0.5}}
    made = metrics_table(results, names=("image", "text"), chance={"test": {"rsum": 30.0}})
    assert made.columns == ("metric", "test", "test, corrected", "chance")
    assert [[cell.text for cell in row[1:]] for row in made.rows] == [["400.0", "410.0", "30.0"], ["0.9", "0.5", "–"]]


def test_fractions_become_percent():
    multi = {"mAP_a2b": 0.5, "mAP": 0.539, "nDCG": 0.673, "accuracy": 50.0}
    assert as_percent(multi) == pytest.approx({"mAP_a2b": 50.0, "mAP": 53.9, "nDCG": 67.3, "accuracy": 50.0})
    assert as_percent({"val/mAP": 0.5, "val/nDCG_a2b": 0.25}) == {"val/mAP": 50.0, "val/nDCG_a2b": 25.0}
    assert as_percent({"mAP": 61.0, "accuracy": 58.0}) == {"mAP": 61.0, "accuracy": 58.0}


def test_labels_name_the_modalities():
    assert metric_label("mAP_b2a", ("video", "text")) == "text → video mAP"
    assert metric_label("accuracy_b", ("audio", "image")) == "accuracy, image alone"
    assert metric_label("test/accuracy_fused", ("audio", "image")) == "test: accuracy, audio and image"
    assert metric_label("accuracy_fused", ("a", "b", "c")) == "accuracy, a, b and c"
    assert metric_label("loss_a", ("audio", "image")) == "loss, audio head"
    assert metric_label("loss_c", ("audio", "image")) == "loss_c"  # there is no third
    assert metric_label("something_new") == "something_new"


def test_non_finite_values_say_so():
    assert metrics_table({"val": {"a2b_R@1": math.nan}}).rows[0][1].text == "not finite"


def test_markdown_cells_cannot_break_out():
    made = to_markdown(table(["name|x", "n"], [["a|b\nc <script>alert(1)</script> \\", 1.5]]))
    lines = made.splitlines()
    assert len(lines) == 3
    assert lines[0] == "| name\\|x | n |"
    assert lines[1] == "| :--- | ---: |"
    assert lines[2] == "| a\\|b c &lt;script&gt;alert(1)&lt;/script&gt; \\\\ | 1.5 |"


def test_plain_columns_line_up_also_with_wide_letters():
    made = to_plain(table(["name", "n"], [["図書", 1.5], ["abc", 10.25], ["e\u0301", None]]))
    assert made.splitlines() == [
        "name      n",
        "----  -----",
        "図書    1.5",
        "abc   10.25",
        "e\u0301         –",
    ]


def test_html_escapes_titles_cells_and_caption():
    made = to_html(table(["<i>x</i>"], [["<script>"], ['"&']]), caption="<b>")
    assert "<script>" not in made
    assert "<i>" not in made
    assert "<b>" not in made
    assert "&lt;script&gt;" in made
    assert "&#34;&amp;" in made


def test_html_keeps_full_values_for_sorting():
    assert 'data-value="43.25"' in to_html(metrics_table(RESULTS))


def test_rows_must_fit():
    with pytest.raises(ValueError, match="row 0"):
        Table(("one",), ((Cell("a"), Cell("b")),))


def test_chance_equals_the_mean_over_all_rankings():
    b_to_a = np.array([0, 0, 1, 2])
    found = chance_recall(b_to_a, ks=(1, 2))
    for k in (1, 2):
        b_orders = list(itertools.permutations(range(4)))
        hits = [any(b_to_a[b] == a for b in order[:k]) for a in range(3) for order in b_orders]
        assert found[f"a2b_R@{k}"] == pytest.approx(100 * np.mean(hits))
        a_orders = list(itertools.permutations(range(3)))
        hits = [a in order[:k] for a in b_to_a for order in a_orders]
        assert found[f"b2a_R@{k}"] == pytest.approx(100 * np.mean(hits))
    assert found["rsum"] == pytest.approx(sum(value for key, value in found.items() if key != "rsum"))


def test_chance_of_a_set_smaller_than_k_is_certain():
    assert chance_recall(np.arange(3), ks=(5,)) == {"a2b_R@5": 100.0, "b2a_R@5": 100.0, "rsum": 200.0}


def test_chance_refuses_values_that_are_no_index():
    with pytest.raises(ValueError, match="b_to_a"):
        chance_recall(np.zeros((0,), int))
