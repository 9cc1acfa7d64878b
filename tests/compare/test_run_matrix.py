"""The runs of a comparison, their order, and the part of the data that each trains on."""

import pytest

from alignment_jax import data
from alignment_jax.compare.comparison_progress import ComparisonProgress
from alignment_jax.compare.run_matrix import DataCondition, SeedGroup, data_conditions, missing_runs, run_key
from alignment_jax.core.errors import ConfigError


def test_the_largest_amount_of_data_comes_first_and_alone_gets_mismatched_pairs():
    found = data_conditions([0.1, 0.5], [0.2, 0.0])
    assert found == [DataCondition(0.5), DataCondition(0.5, 0.2), DataCondition(0.1)]
    assert data_conditions([1.0], []) == [DataCondition()]


@pytest.mark.parametrize(("fractions", "mismatched"), [([0.0], [0]), ([1.5], [0]), ([], [0]), ([1.0], [0.6])])
def test_shares_out_of_range_are_refused(fractions, mismatched):
    with pytest.raises(ConfigError, match=r"--(fractions|mismatched)"):
        data_conditions(fractions, mismatched)


def test_only_missing_runs_are_trained():
    wanted = data_conditions([1.0, 0.3], [0.0])
    everything = missing_runs(["a", "b"], wanted, [0, 1], [])
    assert everything == [SeedGroup(m, c, (0, 1)) for c in wanted for m in ("a", "b")]
    runs = [
        {"method": group.method, "fraction": group.condition.fraction, "mismatched": 0.0, "seed": seed}
        for group in everything
        for seed in group.seeds
    ]
    assert missing_runs(["a", "b"], wanted, [0, 1], runs) == []
    assert missing_runs(["a", "b", "c"], wanted, [0, 1], runs) == [SeedGroup("c", c, (0, 1)) for c in wanted]
    assert missing_runs(["a", "b"], wanted, [0, 1, 2], runs[1:])[0] == SeedGroup("a", DataCondition(), (0, 2))
    assert len({run_key(run) for run in runs}) == len(runs)


def test_fractions_are_nested_with_and_without_classes():
    """The whole chain of fractions, whatever the rounding within a class."""
    source = data.load("synthetic:train=103,val=3,test=3,size=16")
    split = source.splits["train"]
    labelled = split.replace(label=[i * i % 7 for i in range(103)])
    for one in (split, labelled):
        previous: set[str] = set()
        for fraction in (0.01, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 0.99, 1.0):
            ids = set(data.few_samples(one, fraction, seed=3).ids.tolist())
            assert previous <= ids
            assert len(ids) >= max(1, int(fraction * 100) - 4)
            previous = ids


def test_time_left_is_estimated_from_runs_of_the_same_condition():
    full, half = DataCondition(), DataCondition(0.5)
    left = ComparisonProgress([SeedGroup("a", full, (0, 1)), SeedGroup("a", half, (0, 1))], quiet=True)
    assert left.seconds_left() is None
    left.finish_run("a", full, 0, 100.0, "")
    assert left.seconds_left() == pytest.approx(100 + 2 * 62.5)  # a guess: a quarter of a run does not shrink
    left.finish_run("a", full, 1, 100.0, "")
    left.finish_run("a", half, 0, 30.0, "")
    assert left.seconds_left() == pytest.approx(30.0)
    assert left.finish_run("a", half, 1, 30.0, "rsum 1.0").endswith("all done")
