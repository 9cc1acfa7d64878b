"""The pages of benchmarks/balance.py follow from its rows."""

import sys

import pytest


@pytest.fixture
def balance(benchmark_script):
    yield benchmark_script("balance")
    for name in ("balance", "part_cost", "sections"):
        sys.modules.pop(name, None)


def difference(value, verdict):
    return {"difference": value, "low": value - 1, "high": value + 1, "verdict": verdict}


def row(part, differences, verdicts):
    def estimate(mean):
        return {"mean": mean, "low": mean - 1, "high": mean + 1}

    heads = {
        side: {"accuracy": estimate(70.0), "samples": 300, "learned": 0.5, "above_chance": True} for side in ("a", "b")
    }
    fusion = [
        {"method": name, "accuracy": estimate(80.0), "macro_f1": estimate(79.0), "mAP": None, "modalities": heads}
        | {"gap": 5.0, "samples": 300, "best": "b", "gain": estimate(10.0), "verdict": verdict}
        for name, verdict in verdicts.items()
    ]
    about = {"methods": list(verdicts), "seeds": [0, 1], "search": 3, "modalities": ["audio", "image"]}
    return {"part": part, "about": about, "fusion": fusion, "differences": differences}


@pytest.fixture
def rows():
    verdicts = {"vanilla": "beats", "curriculum": "does not beat", "probabilistic": "beats", "anti_curriculum": "beats"}
    differences = {
        "curriculum": difference(3.0, "better"),
        "probabilistic": difference(0.5, "no difference shown"),
        "anti_curriculum": difference(-2.0, "worse"),
    }
    return [row("av", differences, verdicts), row("uci_2", differences, verdicts | {"curriculum": "beats"})]


def test_methods_with_gains_come_first(balance, rows):
    assert balance.order_to_try(rows) == ["curriculum", "probabilistic", "anti_curriculum"]
    lines = [line.split(" | ") for line in balance.differences_table(rows).splitlines()]
    assert lines[2] == ["| vanilla", "80.0", "80.0", "2 of 2 |"]
    assert lines[3] == ["| curriculum", "+3.0 *", "+3.0 *", "1 of 2 |"]
    assert lines[4] == ["| probabilistic", "+0.5", "+0.5", "2 of 2 |"]
    assert lines[5] == ["| anti_curriculum", "-2.0 *", "-2.0 *", "2 of 2 |"]


def test_a_method_that_a_set_lacks_has_no_place(balance, rows):
    del rows[1]["differences"]["curriculum"]
    assert "curriculum" not in balance.order_to_try(rows)


def test_the_page_shows_the_command_and_every_table(balance, rows):
    text = balance.results_text(rows)
    assert "2 seeds; 3 settings for each method, chosen on val." in text
    for part in ("av", "uci_2"):
        assert f"--workdir=runs/balance/{part}" in text
    assert "+10.0 [+9.0, +11.0] over image" in text
    assert "macro F1 [%]" in text


def test_rows_of_other_parts_are_kept(balance, rows, tmp_path):
    path = tmp_path / "rows.jsonl"
    assert balance.keep(rows[1:], path) == rows[1:]
    assert balance.keep(rows[:1], path) == rows  # in the order of the parts
    assert balance.keep([], path) == rows


def test_unknown_methods_are_refused_before_anything_is_trained(balance):
    assert balance.checked(["curriculum"]) == ["vanilla", "curriculum"]
    with pytest.raises(SystemExit, match=r"unknown methods: ogm_gee; registered: .*curriculum"):
        balance.checked(["ogm_gee"])


def test_every_part_reads_a_config_of_the_repository(balance, repository):
    for part in balance.PARTS:
        assert (repository / "configs" / part.config.partition(":")[0]).is_file()
    assert {part.needs for part in balance.PARTS} == {
        "av_digits/manifest.csv", "uci_mfeat/fou_mor.npz", "uci_mfeat/pix_fou_mor.npz",
    }  # fmt: skip
