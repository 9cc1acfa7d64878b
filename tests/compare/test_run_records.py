"""The files of a comparison: whole lines only, the same comparison only, and results that can be checked by hand."""

import json

import numpy as np
import pytest

from alignment_jax.compare import run_records as records
from alignment_jax.compare.item_scores import item_scores, retrieval_items
from alignment_jax.compare.pages import interval_note
from alignment_jax.compare.result_files import comparison_text, csv_text, latex_text
from alignment_jax.compare.run_matrix import DataCondition
from alignment_jax.compare.search import best_trial, draw_trials, nothing_to_search, parse_range
from alignment_jax.compare.summary import summarize
from alignment_jax.core.errors import ConfigError, DataError, RunError
from alignment_jax.core.jsonl import append_row, read_rows
from alignment_jax.report import EnergyMeter


def test_appended_lines_are_read_back_and_torn_ones_are_not(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert read_rows(path) == []
    append_row(path, {"seed": 0, "value": np.float32(1.5), "gap": float("nan")})
    with open(path, "ab") as file:
        file.write(b'{"seed": 1, "val')
    assert read_rows(path) == [{"seed": 0, "value": 1.5, "gap": None}]
    append_row(path, {"seed": 1})
    assert [row["seed"] for row in read_rows(path)] == [0, 1]
    path.write_bytes(b'{"seed": 0}\nnonsense\n{"seed": 2}\n')
    with pytest.raises(RunError, match="line 2"):
        read_rows(path)


ABOUT = {
    "config": {"a": 1, "search": ["x"]},
    "metric": "rsum",
    "stress": "none",
    "search": 0,
    "settings": {"v": {"w": 1}},
}


def test_the_same_comparison_resumes_and_another_is_refused(tmp_path):
    assert records.check_same_comparison(tmp_path, ABOUT) is None
    (tmp_path / "comparison.json").write_text(json.dumps(ABOUT))
    assert records.check_same_comparison(tmp_path, {**ABOUT, "settings": {"other": {}}, "seeds": [0, 1]}) == ABOUT
    assert records.check_same_comparison(tmp_path, {**ABOUT, "config": {**ABOUT["config"], "name": "new"}}) == ABOUT
    # ranges that nothing is drawn from may change
    assert records.check_same_comparison(tmp_path, {**ABOUT, "config": {"a": 1, "search": ["y"]}}) == ABOUT
    for change, message in (
        ({"config": {"a": 2}}, "config.a: 1 -> 2"),
        ({"metric": "a2b_R@1"}, "metric"),
        ({"settings": {"v": {"w": 2}}}, "v.w: 1 -> 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            records.check_same_comparison(tmp_path, {**ABOUT, **change})


def runs():
    """Two methods, three seeds, two amounts of data, with numbers that are easy to check."""
    found = []
    for fraction in (1.0, 0.1):
        for seed in range(3):
            for method, gain in (("baseline", 0.0), ("va_ls", 10.0 if fraction == 1.0 else 0.0)):
                value = 100.0 * fraction + seed + gain
                found.append(
                    {
                        "method": method,
                        "fraction": fraction,
                        "mismatched": 0.0,
                        "seed": seed,
                        "trial": 0,
                        "settings": {},
                        "val": {"rsum": value - 1},
                        "test": {"rsum": value, "a2b_R@1": value / 10},
                        "cost": {"seconds": 2.0},
                    }
                )
    return found


def summary(tmp_path):
    return summarize(tmp_path, runs(), methods=["baseline", "va_ls"], baseline="baseline", metric="rsum")


def test_summary(tmp_path):
    rows = summary(tmp_path)
    assert [(row.method, row.condition) for row in rows] == [
        (method, condition) for condition in (DataCondition(), DataCondition(0.1)) for method in ("baseline", "va_ls")
    ]
    base, better, _, same = rows
    assert (base.mean, base.deviation, base.val, base.difference) == (101.0, 1.0, 100.0, None)
    assert (better.mean, better.difference.mean, better.difference.verdict) == (111.0, 10.0, "better")
    assert better.difference.interval == pytest.approx((10.0, 10.0))
    assert better.metrics["a2b_R@1"] == pytest.approx((11.1, 0.1))
    assert same.difference.verdict == "no difference shown"
    with pytest.raises(RunError, match="no accuracy on test"):
        summarize(tmp_path, runs(), methods=["va_ls"], baseline="va_ls", metric="accuracy")


def test_corrected_scores_have_their_own_difference(tmp_path):
    """The correction adds 5 to the baseline and 2 to the method, so its difference falls from 10 to 7."""
    found = [run for run in runs() if run["fraction"] == 1.0]
    for run in found:
        run["test"]["corrected/rsum"] = run["test"]["rsum"] + (5.0 if run["method"] == "baseline" else 2.0)
        kept = retrieval_items(np.array([7]), np.array([7]), np.arange(1), corrected=(np.array([0]), np.array([7])))
        np.savez(tmp_path / f"{run['method']}{run['seed']}.npz", **kept)
        run["items"] = f"{run['method']}{run['seed']}.npz"
    chosen = {"methods": ["baseline", "va_ls"], "baseline": "baseline", "metric": "rsum"}
    base, method = summarize(tmp_path, found, **chosen)
    assert base.corrected is None
    assert (method.difference.mean, method.corrected.mean) == (10.0, 7.0)
    assert method.to_json()["corrected"]["difference"] == 7.0
    assert item_scores("corrected/a2b_R@1", kept).value.tolist() == [[100.0]]
    assert item_scores("a2b_R@1", kept).value.tolist() == [[0.0]]
    text = comparison_text([base, method], metric="rsum", baseline="baseline", names=("image", "text"))
    assert "106.0 ± 1.0" in text
    assert "+7.0" in text
    del found[-1]["test"]["corrected/rsum"]  # of an earlier version
    assert summarize(tmp_path, found, **chosen)[1].corrected is None


def with_items(folder, run, ranks):
    """The run with a file of its test items: as many images as ranks, a caption each."""
    name = f"{run['method']}{run['seed']}{run['fraction']}.npz"
    kept = retrieval_items(np.array(ranks), np.array(ranks), np.arange(len(ranks)))
    np.savez(folder / name, **kept)
    return {**run, "items": name}


def test_the_note_names_the_resampled_units(tmp_path):
    chosen = {"methods": ["baseline", "va_ls"], "baseline": "baseline", "metric": "rsum"}
    found = [run for run in runs() if run["fraction"] == 1.0]
    assert "covers the seeds alone" in interval_note(summarize(tmp_path, found, **chosen))
    kept = [with_items(tmp_path, run, [0, 3, 9]) for run in found]
    assert "the test items" in interval_note(summarize(tmp_path, kept, **chosen))
    assert "covers the seeds alone" in interval_note(summarize(tmp_path, [*kept[:-1], found[-1]], **chosen))
    assert interval_note(summarize(tmp_path, found[:2], **chosen)) is None  # a single seed


def test_runs_on_different_test_items_are_refused_in_one_line(tmp_path):
    found = [run for run in runs() if run["fraction"] == 1.0]
    kept = [with_items(tmp_path, run, [0, 3, 9][: 2 if run["method"] == "baseline" else 3]) for run in found]
    with pytest.raises(DataError, match=r"va_ls .*different items"):
        summarize(tmp_path, kept, methods=["baseline", "va_ls"], baseline="baseline", metric="rsum")


def test_text_marks_differences(tmp_path):
    text = comparison_text(summary(tmp_path), metric="rsum", baseline="baseline", names=("image", "text"))
    assert "111.0 ± 1.0" in text
    assert "+10.0 to +10.0" in text
    assert "111.0 ± 1.0 *" in text
    assert "11.0 ± 1.0 *" not in text.replace("111.0", "")
    assert comparison_text([], metric="rsum", baseline="b", names=("a", "b")) == "no run has finished yet"
    only = [row for row in summary(tmp_path) if row.condition == DataCondition(0.1)]
    assert "no difference shown" in comparison_text(only, metric="rsum", baseline="baseline", names=("image", "text"))


def test_multi_instance_metrics_are_shown_in_percent(tmp_path):
    measured = {"mAP_a2b": 0.3, "mAP_b2a": 0.5, "mAP": 0.4, "nDCG": 0.25}
    for run in runs()[:2]:
        append_row(tmp_path / "runs.jsonl", {**run, "test": measured, "val": measured})
    trial = {"method": "va_ls", "trial": 1, "metric": "mAP", "values": [0.4, None], "value": None, "settings": {}}
    append_row(tmp_path / "trials.jsonl", trial)
    found, trials = records.read_runs_and_trials(tmp_path)
    assert trials[0]["values"] == [40.0, None]
    rows = summarize(tmp_path, found, methods=["baseline", "va_ls"], baseline="baseline", metric="mAP")
    assert (rows[0].mean, rows[0].val) == (40.0, 40.0)
    assert "$40.0$" in latex_text(rows, {"metric": "mAP", "baseline": "baseline"})
    text = comparison_text(rows, metric="mAP", baseline="baseline", names=("image", "text"))
    assert "mAP [%]" in text
    assert "40.0" in text
    assert read_rows(tmp_path / "runs.jsonl")[0]["test"]["mAP"] == 0.4  # the file keeps the measured value


def test_the_map_of_a_classifier_is_a_percentage_already(tmp_path):
    append_row(tmp_path / "runs.jsonl", {**runs()[0], "test": {"accuracy": 58.0, "mAP": 61.0}, "val": {}})
    assert records.read_runs_and_trials(tmp_path)[0][0]["test"]["mAP"] == 61.0


def test_latex_escapes_and_marks_better_methods(tmp_path):
    text = latex_text(summary(tmp_path), {"metric": "rsum", "baseline": "baseline", "title": "50% &\nmore"})
    lines = text.splitlines()
    assert r"all data & baseline & $101.0 \pm 1.0$ & -- & -- \\" in lines
    assert r" & va\_ls & $\mathbf{111.0 \pm 1.0}$ & $+10.0$ & $[+10.0, +10.0]$ \\" in lines
    assert r"10 \% of the data & baseline & $11.0 \pm 1.0$ & -- & -- \\" in lines
    assert lines.count(r"\midrule") == 2
    assert all(line.startswith(("%", "\\", " ", "all", "10", "data")) for line in lines)


def test_csv_has_runs_and_trials():
    trial = {"method": "v", "trial": 1, "settings": {"x": 2}, "metric": "rsum", "seeds": [0, 1], "values": [3.0, None]}
    lines = csv_text(runs()[:1], [trial]).splitlines()
    assert lines[0] == (
        "kind,method,fraction,mismatched,seed,trial,test/rsum,test/a2b_R@1,val/rsum,cost/seconds,setting/x"
    )
    assert lines[1:] == [
        "run,baseline,1.0,0.0,0,0,100.0,10.0,99.0,2.0,",
        "trial,v,1.0,0.0,0,1,,,3.0,,2",
        "trial,v,1.0,0.0,1,1,,,,,2",
    ]


RANGES = ("optimizer.learning_rate = log(1e-4, 1e-2)", "vals: weighting.decay = uniform(0.5, 0.9)", "n = times(0.5, 2)",
          "vals: weighting.mode = choice(proportional, inverse)")  # fmt: skip
OWN = {"optimizer.learning_rate": 1e-3, "weighting.decay": 0.9, "weighting.mode": "proportional", "n": 100}


def test_every_method_tries_the_same_values_of_shared_ranges():
    base, vals = (draw_trials(RANGES, [name], 40, OWN, seed=0) for name in ("baseline", "vals"))
    assert len(base) == len(vals) == 40
    assert base[0] == vals[0] == {}
    for one, other in zip(base[1:], vals[1:], strict=True):
        assert one.keys() == {"optimizer.learning_rate", "n"}
        assert one.items() <= other.items()
    rates = np.array([one["optimizer.learning_rate"] for one in base[1:]])
    assert rates.min() < 3e-4
    assert rates.max() > 3e-3
    assert 0.3 < np.mean(rates < 1e-3) < 0.7  # uniform in the logarithm
    assert {one["weighting.mode"] for one in vals[1:]} == {"proportional", "inverse"}
    assert all(isinstance(one["n"], int) and 50 <= one["n"] <= 200 for one in base[1:])
    assert draw_trials(RANGES, ["vals"], 40, OWN, seed=1) != vals


@pytest.mark.parametrize(
    "text", ["lr", "lr = log(1)", "lr = log(2, 1)", "lr = log(0, 1)", "lr = normal(0, 1)", "x: lr"]
)
def test_ranges_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="search"):
        parse_range(text)


def test_a_search_without_ranges_or_with_unknown_settings_is_refused():
    with pytest.raises(ConfigError, match="no range"):
        draw_trials([], ["vals"], 3, OWN, seed=0)
    with pytest.raises(ConfigError, match="no setting 'lr'"):
        draw_trials(["lr = log(1, 2)"], ["vals"], 3, OWN, seed=0)


def test_the_default_ranges_fit_the_default_configuration():
    from alignment_jax.config import default
    from alignment_jax.config.recipes import METHODS, expand_methods
    from alignment_jax.train.workdir import flatten_config

    config = default()
    for method in [*METHODS, "all", "recipe"]:
        changed = draw_trials(config.search, expand_methods(method), 3, flatten_config(config.to_dict()), seed=0)[2]
        config.copy_and_resolve_references().update_from_flattened_dict(changed)


def test_a_closed_form_is_not_searched():
    from alignment_jax.config import default
    from alignment_jax.config.recipes import METHODS, apply_methods
    from alignment_jax.train.workdir import flatten_config

    skipped = []
    for method in METHODS:
        config = default()
        apply_methods(config, method)
        drawn = draw_trials(config.search, [method], 3, flatten_config(config.to_dict()), seed=0)
        if nothing_to_search(config.train.duration, drawn):
            skipped.append(method)
    assert skipped == ["cca", "csa"]
    assert not nothing_to_search("0 steps", [{}, {"init.power": 0.5, "optimizer.learning_rate": 0.1}])
    assert not nothing_to_search("0.5 epochs", [{}, {"optimizer.learning_rate": 0.1}])


def test_best_trial_is_the_earliest_of_the_best():
    assert best_trial({2: 5.0, 1: 5.0, 0: 4.0}) == 1


def test_energy_is_read_from_packages_and_survives_a_counter_that_starts_again(tmp_path):
    for name, value in (("intel-rapl:0", 5_000_000), ("intel-rapl:0:0", 1), ("intel-rapl:1", 1_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(value))
        (tmp_path / name / "max_energy_range_uj").write_text("10000000")
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000")  # 5 J up to the end of the range, and 2 more
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("4000000")
    assert meter.joules() == pytest.approx(7.0 + 3.0)
    assert EnergyMeter(tmp_path / "nothing").joules() is None


def test_runs_on_data_that_changed_are_not_compared(tmp_path):
    assert records.check_same_data(tmp_path, {"test": "x"}) == {"test": "x"}
    (tmp_path / records.COMPARISON).write_text(json.dumps({"data": {"test": "x"}}))
    assert records.check_same_data(tmp_path, {"test": "x"}) == {"test": "x"}
    with pytest.raises(DataError, match="test changed"):
        records.check_same_data(tmp_path, {"test": "y"})
    (tmp_path / records.COMPARISON).write_text(json.dumps({}))  # made before there was such a record
    assert records.check_same_data(tmp_path, {"test": "y"}) == {"test": "y"}
