"""Methods need no runs if their order of samples cannot affect training, and only then."""

import json

import pytest

from alignment_jax import config as configs
from alignment_jax.cli.main import main
from alignment_jax.compare.equivalent_methods import equivalent_under, find_equivalent_methods
from alignment_jax.compare.result_files import conditions_table, latex_text, main_table
from alignment_jax.compare.run_matrix import DataCondition
from alignment_jax.compare.summary import summarize
from alignment_jax.core.jsonl import append_row, read_rows
from alignment_jax.report import to_plain

ALL, TENTH = DataCondition(), DataCondition(0.1)


def found(methods, sizes=None, trials=None, batch_size=600, **changes):
    """(method, as, fraction) of the methods that need no runs."""
    made = {}
    for method in methods:
        made[method] = configs.default()
        made[method].name = f"with {method}"
        made[method].input.batch_size = batch_size
        configs.apply_methods(made[method], method)
        made[method].update_from_flattened_dict(changes)
    trials = trials or {method: [{}] for method in methods}
    rows = find_equivalent_methods(made, sizes or {ALL: 600}, trials)
    return [(row["method"], row["as"], row["fraction"]) for row in rows]


def test_an_order_within_one_batch_is_the_method_without_it():
    methods = ["baseline", "vals", "bss", "vals+bss", "noise+bss"]
    assert found(methods) == [("bss", "baseline", 1.0), ("vals+bss", "vals", 1.0)]
    assert found(["bss", "baseline"]) == [("baseline", "bss", 1.0)]
    assert found(["vals+bss", "bss"]) == []


@pytest.mark.parametrize(
    ("methods", "changes"),
    [
        (["baseline", "bss"], {"batch_size": 599}),
        (["baseline", "bss"], {"sampling.replacement": True}),
        (["fusemix", "fusemix+bss"], {}),  # the order decides who is mixed with whom
        (["baseline", "curriculum"], {}),  # its early epochs show a part of the samples
        (["baseline", "smoothing"], {"smoothing.start": 0.0}),  # the same by its settings is the user's own wish
    ],
)
def test_methods_that_may_differ_are_trained(methods, changes):
    assert found(methods, **changes) == []


def test_it_depends_on_the_amount_of_data():
    sizes = {ALL: 1000, TENTH: 100}
    assert found(["baseline", "bss"], sizes) == [("bss", "baseline", 0.1)]
    tried = [{}, {"optimizer.weight_decay": 0.3}]  # chosen where the order is not lost
    assert found(["baseline", "bss"], sizes, {"baseline": tried, "bss": tried}) == []


def test_a_search_with_settings_of_one_method_runs():
    tried = [{}, {"optimizer.weight_decay": 0.3}]
    own = [{}, {"optimizer.weight_decay": 0.3, "sampling.floor": 0.2}]
    drawn = [{}, {"optimizer.weight_decay": 0.3, "sampling.replacement": True}]
    assert found(["baseline", "bss"], trials={"baseline": tried, "bss": own}) == [("bss", "baseline", 1.0)]
    assert found(["baseline", "bss"], trials={"baseline": tried, "bss": drawn}) == []


def test_tables_have_a_row_without_numbers(tmp_path):
    runs = [
        {"method": "baseline", "fraction": fraction, "mismatched": 0.0, "seed": 0, "test": {"rsum": 300.0}}
        for fraction in (1.0, 0.1)
    ]
    same = [{"method": "bss", "as": "baseline", **condition.to_json()} for condition in (ALL, TENTH)]
    about = {"same": same, "metric": "rsum", "baseline": "baseline"}
    rows = summarize(tmp_path, runs, methods=["baseline", "bss"], baseline="baseline", metric="rsum")
    main_rows = main_table(
        rows[:1], metric="rsum", baseline="baseline", names=("image", "text"), same=equivalent_under(about, ALL)
    )
    assert "same as baseline" in to_plain(main_rows).splitlines()[-1]
    assert to_plain(conditions_table(rows, baseline="baseline", about=about)).count("as baseline") == 2
    assert latex_text(rows, about).count(r"bss & \multicolumn{3}{l}{same as baseline: ") == 2


@pytest.mark.slow
def test_the_command_reports_it_once_and_trains_the_others(tmp_path, repository, embeddings, capsys):
    command = [
        "compare", f"--config={repository}/configs/flickr8k_frozen.py:data=embeddings:{embeddings}",
        f"--workdir={tmp_path}", "--seeds=2", "--stress=none", "--config.train.devices=1", "--config.model.dim=8",
        "--config.train.duration=3 epochs", "--config.input.batch_size=40",
    ]  # fmt: skip
    assert main([*command, "--methods=baseline,bss"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("bss is not trained") == 1
    assert "2 runs to train" in shown.err
    assert "same as baseline" in shown.out
    assert {run["method"] for run in read_rows(tmp_path / "runs.jsonl")} == {"baseline"}
    assert json.loads((tmp_path / "results.json").read_text())["same"][0]["as"] == "baseline"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "baseline: bss" in page
    # A method that has runs, of a time when its order mattered here, keeps them.
    row = {**read_rows(tmp_path / "runs.jsonl")[0], "method": "bss"}
    append_row(tmp_path / "runs.jsonl", row)
    assert main([*command, "--methods=baseline,bss"]) == 0
    assert [run["method"] for run in read_rows(tmp_path / "runs.jsonl")].count("bss") == 2
