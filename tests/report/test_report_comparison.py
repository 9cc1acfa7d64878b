"""The page of a comparison: content, order, missing parts and hostile text."""

import dataclasses
import json

import comparison_example as example
import numpy as np
import pytest
from page_reader import EVIL, Page

from alignment_jax.core.errors import RunError
from alignment_jax.report import Comparison, MeanStd, mean_std, write_comparison
from alignment_jax.report import comparison_charts as charts
from alignment_jax.report import comparison_tables as tables
from alignment_jax.report.disagreements import disagreements
from alignment_jax.report.tables import to_plain

pytest.importorskip("matplotlib", reason="needs the extra 'train'")
pytest.importorskip("PIL.Image", reason="needs the extra 'train'")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return Comparison(folder, example.about(), tuple(example.runs(folder)))


@pytest.fixture(scope="module")
def whole(comparison):
    path = write_comparison(comparison.folder, comparison.about, comparison.runs, verdicts=example.VERDICTS)
    return path, path.read_text(encoding="utf-8")


def test_spread_ignores_missing_values():
    assert mean_std([2.0, 4.0, float("nan"), None]) == MeanStd(3.0, pytest.approx(2**0.5), 2)
    assert mean_std([5.0]) == MeanStd(5.0, None, 1)
    assert mean_std([None]) is None
    assert MeanStd(3.0, 1.5, 2).text() == "3.0 ± 1.5"
    assert MeanStd(3.0, None, 1).text() == "3.0"


def test_runs_are_grouped_by_shared_settings(comparison):
    assert comparison.methods == example.METHODS
    assert comparison.fractions == (0.25, 1.0)
    assert comparison.shares == (0.0, 0.4)
    assert [run["seed"] for run in comparison.of("vals")] == [0, 1]
    found = comparison.mean_std("vals", lambda run: run["test"]["a2b_R@1"], fraction=0.25)
    assert found == MeanStd(pytest.approx(40 + 2 + 0.25 - 20 + 1), pytest.approx(0.5 / 2**0.5), 2)


def test_charts_hold_means_and_bands(comparison):
    chart = charts.data_efficiency(comparison)
    line = chart.series[1]
    assert (line.label, line.style, line.steps.tolist()) == ("vals", 1, [0.25, 1.0])
    of_seeds = [example.run("vals", seed)["test"]["rsum"] for seed in (0, 1)]
    assert line.values[1] == pytest.approx(np.mean(of_seeds))
    assert line.high[1] - line.values[1] == pytest.approx(np.std(of_seeds, ddof=1))
    curves = charts.noise_curves(comparison)
    assert [chart.title for chart in curves] == ["Noise on image latents", "Noise on text latents"]
    assert curves[0].series[0].steps.tolist() == [0.0, 0.5, 1.0]
    assert np.diff(curves[0].series[0].values) == pytest.approx(-60)
    by_name = {chart.name: chart for chart in charts.training_curves(comparison)}
    assert [line.label for line in by_name["weight_ab"].series] == ["vals"]  # the others keep their weight at 1
    assert by_name["weight_ab"].series[0].style == 1
    (mm_ts,) = [line for line in by_name["temperature"].series if line.label == "mm_ts"]
    assert (mm_ts.high - mm_ts.low) == pytest.approx(0.04)
    (reliable, _) = charts.reliability_charts(comparison)
    assert reliable.series[0].steps == pytest.approx([0.05, 0.45])


def test_only_weights_that_move_are_in_their_table(comparison):
    (row,) = tables.weight_table(comparison).rows
    assert [cell.text for cell in row] == ["vals", "0.200 ± 0.000", "0.100 ± 0.000"]
    fixed = tuple(run for run in comparison.runs if run["method"] != "vals")
    assert tables.weight_table(Comparison(comparison.folder, comparison.about, fixed)) is None


def test_bands_and_whiskers_are_explained(comparison, whole):
    notes = {chart.name: chart.note for chart in charts.training_curves(comparison)}
    assert notes["val_rsum"] == charts.BAND
    assert notes["temperature"] not in ("", charts.BAND)
    assert charts.data_efficiency(comparison).note == charts.BAND
    first = tuple(run for run in comparison.runs if run["seed"] == 0)
    assert charts.data_efficiency(Comparison(comparison.folder, comparison.about, first)).note == ""  # no band
    text = Page(whole[1]).text
    assert charts.BAND in text
    assert charts.WHISKER in text


def test_a_single_point_over_training_is_no_curve(tmp_path):
    run = {**example.run("vals", 0), "history": example.history(40.0, weight=1.1)[:2]}
    assert charts.training_curves(Comparison(tmp_path, example.about(), (run,))) == []


def test_a_closed_form_is_named_below_the_curves_of_the_others(comparison):
    point = [{"step": 0, "val/rsum": 300.0}]
    runs = tuple({**run, "history": point} if run["method"] == "mm_ts" else run for run in comparison.runs)
    chart = charts.training_curves(Comparison(comparison.folder, comparison.about, runs))[0]
    assert [(line.label, line.style) for line in chart.series] == [("baseline", 0), ("vals", 1)]
    assert chart.note.startswith(charts.BAND)
    assert "mm_ts" in chart.note.removeprefix(charts.BAND)
    assert "vals" not in chart.note


def test_a_closed_form_has_one_map(tmp_path, undrawn):
    arrays = example.kept(0)
    still = {**arrays, "map_30_before_a": arrays["map_30_a"], "map_30_before_b": arrays["map_30_b"]}
    np.savez(tmp_path / "x.npz", **arrays)
    np.savez(tmp_path / "y.npz", **still)
    runs = [example.run("baseline", 0, embeddings="x.npz"), example.run("vals", 0, embeddings="y.npz")]
    text = Page(write_comparison(tmp_path, example.about(), runs).read_text(encoding="utf-8")).text
    assert text.count("closed form") == 1


def test_a_step_counts_when_every_seed_reached_it(comparison):
    short = [dict(run) for run in comparison.runs]
    short[0]["history"] = short[0]["history"][:4]  # the first seed of the baseline stopped after step 20
    cut = Comparison(comparison.folder, comparison.about, tuple(short))
    assert list(charts.values_by_step(cut, "val/rsum", "baseline")) == [10.0, 20.0]


def test_a_history_may_be_a_file_of_the_folder_and_of_no_other(comparison, tmp_path):
    inside, outside = tmp_path / "work" / "metrics.jsonl", tmp_path / "metrics.jsonl"
    inside.parent.mkdir()
    for path in (inside, outside):
        path.write_text('{"step": 1, "val/rsum": 2.0}\n', encoding="utf-8")
    cut = Comparison(tmp_path / "work", comparison.about, ())
    assert len(cut.history({"history": "metrics.jsonl"})) == 1
    assert cut.history({"history": "../metrics.jsonl"}) == []
    assert cut.history({"history": str(outside)}) == []
    assert cut.history({}) == []


def test_the_history_of_a_multi_instance_metric_is_in_percent(comparison):
    rows = [{"step": 1, "val/mAP_a2b": 0.5, "val/mAP": 0.4, "train/loss": 0.2}]
    shown = comparison.history({"history": rows})
    assert shown == [{"step": 1, "val/mAP_a2b": 50.0, "val/mAP": 40.0, "train/loss": 0.2}]


def test_the_verdict_comes_first(whole):
    found = Page(whole[1])
    assert found.ids == [
        "verdict",
        "amount-of-data",
        "learning-curves",
        "weights-of-the-two-directions",
        "noise-at-test-time",
        "mismatched-pairs-in-training",
        "calibration",
        "frequent-and-rare-content",
        "maps-of-the-embeddings",
        "where-two-methods-disagree",
        "settings-of-the-methods",
        "cost",
        "configuration-of-the-base",
        "environment",
    ]
    for expected in (
        "Against baseline: better: vals; worse: mm_ts.",
        "vals 285.5 ± 2.1 +12.0 [+10.0, +14.0] better",
        "With 25 % of the training samples.",
        "With 40 % of the training pairs mismatched.",
        "weighting.signal fixed · variance ·",
        "baseline 6 50 6,000 2.0 s 1.5 s",
        "18 runs, 108,000 pairs seen, 27.0 s of device time.",
        "18 runs, 3 methods, 2 seeds",
    ):
        assert expected in found.text, expected


def test_the_page_needs_nothing_else(whole):
    found = Page(whole[1])
    for address in found.addresses:
        assert address.startswith(("data:image/", "report_files/")), address
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert all(attributes["alt"] for attributes in pictures)
    files = sorted(path.name for path in (whole[0].parent / "report_files").glob("*.svg"))
    assert len(files) == len([address for address in found.addresses if address.startswith("report_files/")])
    assert "long_tail.svg" in files


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(comparison, whole, tmp_path):
    import shutil

    for path in comparison.folder.glob("*.npz"):
        shutil.copy(path, tmp_path)
    again = write_comparison(tmp_path, comparison.about, comparison.runs, verdicts=example.VERDICTS)
    assert again.read_text(encoding="utf-8") == whole[1]


def test_pictures_of_an_earlier_report_go(tmp_path, undrawn):
    old = tmp_path / "report_files" / "noise_gone_a.svg"
    old.parent.mkdir()
    old.write_text("<svg/>", encoding="utf-8")
    write_comparison(tmp_path, example.about(), [example.run("baseline", 0)])
    assert not old.exists()


@pytest.mark.parametrize("part", ["analysis", "history", "cost", "settings", "val"])
def test_any_part_may_be_missing(tmp_path, undrawn, part):
    runs = [
        {key: value for key, value in example.run(m, s).items() if key != part}
        for m in ("baseline", "vals")
        for s in (0, 1)
    ]
    text = write_comparison(tmp_path, example.about(), runs).read_text(encoding="utf-8")
    assert "vals 285.5 ± 2.1 – –" in Page(text).text


def test_an_incomplete_comparison_is_marked(tmp_path, undrawn):
    nothing = Page(write_comparison(tmp_path, example.about(complete=False), []).read_text(encoding="utf-8"))
    assert "No results yet" in nothing.text
    some = write_comparison(tmp_path, example.about(complete=False), [example.run("vals", 0)])
    assert "Not complete" in Page(some.read_text(encoding="utf-8")).text  # the baseline itself is still missing


def test_nothing_in_the_data_becomes_markup(tmp_path, undrawn):
    np.savez(tmp_path / "x.npz", **{**example.kept(0, words=EVIL), "ids": np.array([f"{EVIL}{i}" for i in range(6)])})
    np.savez(tmp_path / "y.npz", **{**example.kept(1, words=EVIL), "ids": np.array([f"{EVIL}{i}" for i in range(6)])})
    runs = [example.run("baseline", 0, embeddings="x.npz"), example.run("vals", 0, embeddings="y.npz")]
    evil = {**runs[1], "method": f"vals {EVIL}/..", "settings": {EVIL: EVIL}, "cost": {**runs[1]["cost"], EVIL: 1}}
    verdict = {"method": evil["method"], "difference": 1.0, "low": 0.0, "high": 2.0, "verdict": EVIL}
    about = example.about(title=EVIL, modalities=[EVIL, EVIL], config={EVIL: EVIL}, environment={EVIL: EVIL})
    path = write_comparison(tmp_path, about, [runs[0], evil], verdicts=[verdict], notes=[EVIL])
    found = Page(path.read_text(encoding="utf-8"))
    assert [tag for tag, _ in found.tags if tag == "script"] == ["script"]
    assert EVIL in found.text
    assert all(address.startswith(("data:image/", "report_files/")) for address in found.addresses)
    assert {p.parent for p in tmp_path.rglob("*.svg")} == {tmp_path / "report_files"}


def test_a_search_is_shown_with_the_chosen_settings(comparison):
    values = {"baseline": [[10, 12], [9, 9], [13, 15]], "vals": [[11, 11]]}
    trials = tuple(
        {"method": method, "trial": k, "settings": {"optimizer.learning_rate": 0.01 * k} if k else {}, "values": each}
        for method, several in values.items()
        for k, each in enumerate(several)
    )
    searched = Comparison(comparison.folder, comparison.about, comparison.runs, trials)
    first, second = to_plain(tables.search_table(searched)).splitlines()[2:]
    assert " ".join(first.split()) == "baseline 3 11.0 ± 1.4 14.0 ± 1.4 optimizer.learning_rate = 0.02"
    assert " ".join(second.split()) == "vals 1 11.0 ± 0.0 11.0 ± 0.0 unchanged"
    assert charts.search_chart(searched).series[0].values.tolist() == [11.0, 11.0, 14.0]
    assert "4 trials" in tables.total_cost(searched)
    assert tables.search_table(comparison) is None
    assert charts.search_chart(comparison) is None


def test_where_two_methods_disagree():
    first, second = example.kept(0), example.kept(1)
    first["rank_ba"][:] = [0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3, 3]
    second["rank_ba"][:] = [0, 5, 2, 9, 0, 0, 3, 3, 3, 3, 3, 3]
    found = disagreements(first, second, methods=("x", "y"))
    assert found.counts == (2, 3, 1, 6)
    # Captions 2 and 3 are of one item: of these the one that the other method misses by more.
    assert [query.tolist() for query in found.queries] == [[3, 1], [5]]
    assert disagreements(first, first, methods=("x", "x")) is None
    assert disagreements(first, {**second, "ids": second["ids"][::-1]}, methods=("x", "y")) is None
    assert disagreements(first, {}, methods=("x", "y")) is None


@pytest.mark.parametrize("pictures", [True, False])
def test_items_without_a_picture_show_a_caption(comparison, undrawn, pictures):
    images = (lambda items: {item: np.zeros((9, 9, 3), np.uint8) for item in items}) if pictures else None
    path = write_comparison(comparison.folder, comparison.about, comparison.runs, images=images)
    boxes = [
        attributes for _, attributes in Page(path.read_text(encoding="utf-8")).tags if attributes.get("class") == "text"
    ]
    assert bool(boxes) != pictures


def test_tables_for_themselves(comparison):
    assert to_plain(tables.retained_table(comparison)).splitlines()[2].split() == [
        "baseline",
        *(["80.0", "±", "0.0", "90.0", "±", "0.0"]),
    ]
    assert tables.long_tail_table(comparison).columns == ("method", "head", "middle", "tail", "head minus tail")
    assert tables.hubness_table(comparison, ()) is None
    hubs = dataclasses.replace(
        comparison,
        runs=tuple(
            {**run, "test": {**run["test"], "a2b_skewness": 0.5, "corrected/rsum": 9.0}} for run in comparison.runs
        ),
    )
    verdicts = [{"method": "vals", "corrected": {"difference": 2.0, "low": 1.0, "high": 3.0, "verdict": "better"}}]
    rows = {row[0].text: [cell.text for cell in row[2:]] for row in tables.hubness_table(hubs, verdicts).rows}
    assert rows["vals"] == ["9.0 ± 0.0", "+2.0 [+1.0, +3.0]", "better", "0.50 ± 0.00"]
    assert "energy" not in " ".join(tables.cost_table(comparison).columns)


def test_a_classification_has_a_balance_and_no_retrieval(tmp_path, undrawn):
    runs = []
    for method in ("baseline", "bss"):
        for seed in (0, 1):
            scores = {"accuracy": 80.0 + seed, "accuracy_a": 50.0, "accuracy_b": 70.0, "macro_f1": 79.0}
            rows = [{"step": s, **{f"val/{k}": v - 100 / s for k, v in scores.items()}} for s in (10, 20, 30)]
            runs.append(
                {
                    "method": method,
                    "fraction": 1.0,
                    "mismatched": 0.0,
                    "seed": seed,
                    "test": scores,
                    "history": rows,
                }
            )
    about = example.about(
        task="classification", metric="accuracy", methods=["baseline", "bss"], modalities=["audio", "image"]
    )

    def estimate(mean):
        return {"mean": mean, "low": mean - 1.0, "high": mean + 1.0}

    heads = {
        side: {"accuracy": estimate(accuracy), "samples": 20, "learned": learned, "above_chance": True}
        for side, accuracy, learned in (("a", 50.0, 0.8), ("b", 70.0, 0.2))
    }
    row = {"accuracy": estimate(80.5), "macro_f1": estimate(79.0), "mAP": None, "modalities": heads, "gap": 20.0}
    row |= {"samples": 20, "best": "b", "gain": estimate(10.5), "verdict": "beats", "fraction": 1.0, "mismatched": 0.0}
    fusion = [{**row, "method": method} for method in ("baseline", "bss")]
    found = Page(write_comparison(tmp_path, about, runs, fusion=fusion).read_text(encoding="utf-8"))
    assert found.ids[:3] == ["verdict", "learning-curves", "balance-of-the-modalities"]
    numbers = "80.5 [79.5, 81.5] 50.0 [49.0, 51.0] 70.0 [69.0, 71.0] 20.0 +10.5 [+9.5, +11.5] over image beats"
    assert f"bss {numbers}" in found.text
    assert "bss 79.0 [78.0, 80.0] 80 20" in found.text
    assert "bss: fusion beats its best modality (image) by 10.5 points" in found.text
    assert Comparison(tmp_path, example.about(modalities=["colour", "flow", "depth"]), ()).third == "depth"
    assert {"gap.svg", "balance_bss.svg"} <= {path.name for path in (tmp_path / "report_files").glob("*.svg")}


def test_damaged_embeddings_are_named(comparison, tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no archive")
    cut = Comparison(
        tmp_path, comparison.about, (json.loads(json.dumps({**comparison.runs[0], "embeddings": "x.npz"})),)
    )
    with pytest.raises(RunError, match=r"x\.npz"):
        cut.arrays("baseline")
