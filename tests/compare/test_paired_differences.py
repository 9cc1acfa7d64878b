"""Intervals of paired differences: known answers, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from alignment_jax import evals
from alignment_jax.compare.item_scores import item_scores, retrieval_items
from alignment_jax.compare.paired_differences import (
    ItemScores,
    compare_paired,
    mean_and_deviation,
    metric_intervals,
    sign_flip,
)
from alignment_jax.metrics import retrieval_ranks, retrieval_recall


def test_interval_over_seeds_is_close_to_students():
    """For normal differences the expanded bootstrap must not be narrower than the exact interval."""
    rng = np.random.default_rng(0)
    for n in (3, 5, 10):
        width, exact = [], []
        for _ in range(30):
            d = rng.normal(size=n)
            low, high = compare_paired(np.zeros(n), d, resamples=3000).seeds
            width.append(high - low)
            exact.append(2 * stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / np.sqrt(n))
        assert np.mean(width) == pytest.approx(np.mean(exact), rel=0.12)


@pytest.mark.parametrize("n", [3, 5])
def test_coverage_over_seeds(n):
    """95 % wanted; 300 simulations leave a standard error of 1.3 points."""
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(300):
        low, high = compare_paired(np.zeros(n), rng.normal(1.0, 2.0, n), resamples=800).seeds
        hits += low <= 1.0 <= high
    assert 0.90 <= hits / 300 <= 0.99


def simulated(rng, seeds, n, effect, *, items_sd, seeds_sd):
    """Hits of two methods on n items: hard items are hard for both, and each seed is luckier with some."""
    ease = rng.normal(0, items_sd, n)
    luck = rng.normal(0, seeds_sd, (2, seeds, 1))
    score = ease + luck + rng.normal(0, 0.6, (2, seeds, n)) + np.array([0.0, effect])[:, None, None]
    return (score > 0).astype(float) * 100


def test_coverage_over_seeds_and_items():
    """The truth is the mean over all seeds and all items; the interval over seeds alone would miss the items' part."""
    rng = np.random.default_rng(0)
    effect, seeds, n = 0.3, 5, 60
    truth = np.mean(
        [np.diff(simulated(rng, 2, 4000, effect, items_sd=1.0, seeds_sd=0.1).mean((1, 2))) for _ in range(60)]
    )
    hits = 0
    for _ in range(120):
        hit = simulated(rng, seeds, n, effect, items_sd=1.0, seeds_sd=0.1)
        items = tuple([ItemScores(one[None], np.ones((1, n))) for one in side] for side in hit)
        low, high = compare_paired(*hit.mean(2), items=items, resamples=600).both
        hits += low <= truth <= high
    assert hits / 120 >= 0.90


def test_items_widen_the_interval_only_by_their_differences():
    """Five identical seeds: over seeds there is no doubt at all, over items there is."""
    rng = np.random.default_rng(0)
    base, better = rng.random(50) < 0.5, np.ones(50, bool)
    pair = [[ItemScores(100.0 * x[None], np.ones((1, 50)))] * 5 for x in (base, better)]
    values = [[100.0 * x.mean()] * 5 for x in (base, better)]
    found = compare_paired(*values, items=tuple(pair))
    assert found.seeds == pytest.approx((found.mean, found.mean))
    d = 100.0 * (better.astype(float) - base)
    half = 1.96 * d.std() / np.sqrt(50)
    assert found.both == pytest.approx((found.mean - half, found.mean + half), abs=1.5)


def test_a_constant_shift_is_certain_and_no_shift_shows_nothing():
    base = np.array([400.0, 405.0, 398.0, 402.0, 401.0])
    assert compare_paired(base, base + 2.0).verdict == "better"
    assert compare_paired(base, base - 2.0).verdict == "worse"
    same = compare_paired(base, base)
    assert (same.verdict, same.seeds, same.p_value) == ("no difference shown", (0.0, 0.0), 1.0)


def test_one_or_two_seeds_are_too_few():
    assert compare_paired([400.0, 402.0], [410.0, 406.0]).verdict == "no difference shown"
    assert compare_paired([400.0], [410.0]).verdict == "one seed: no statement"


def test_methods_that_do_not_vary_have_no_interval_over_seeds():
    found = compare_paired([400.0] * 5, [405.0] * 5)
    assert (found.mean, found.interval, found.p_value) == (5.0, None, None)
    assert found.verdict == "no interval: nothing varies between seeds"
    assert compare_paired([400.0, 401.0], [405.0] * 2).interval is not None  # the baseline varies


def test_pairing_removes_the_variation_shared_by_seeds():
    rng = np.random.default_rng(0)
    base = rng.normal(400, 30, 8)  # seeds differ much more than the methods do
    assert compare_paired(base, base + 3 + rng.normal(0, 0.5, 8)).verdict == "better"


def test_unequal_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match="as many seeds"):
        compare_paired([1.0, 2.0], [1.0])


def test_sign_flip_is_exact():
    assert sign_flip([1.0, 1.0, 1.0, 1.0, 1.0]) == 2 / 32
    assert sign_flip([3.0, -1.0]) == 1.0  # |sum| of 2 is reached by all but none of the four: 4, 2, 2, 4
    assert sign_flip([0.0, 0.0]) == 1.0
    assert sign_flip(np.ones(14)) == pytest.approx(2 / 2**14, abs=2e-3)


def test_mean_and_deviation():
    assert mean_and_deviation([2.0, 4.0, 6.0]) == (4.0, 2.0)
    assert mean_and_deviation([2.0]) == (2.0, None)


def test_item_shares_add_up_to_the_metric():
    rng = np.random.default_rng(0)
    owner = np.sort(np.concatenate([np.arange(20), rng.integers(0, 20, 30)]))
    za, zb = rng.normal(size=(20, 6)), rng.normal(size=(50, 6))
    zb += 1.5 * za[owner]
    za, zb = za.astype(np.float32), zb.astype(np.float32)
    recall = retrieval_recall(za, zb, owner)
    kept = retrieval_items(*retrieval_ranks(za, zb, owner), owner)
    for metric in ("rsum", "a2b_R@1", "b2a_R@5"):
        found = item_scores(metric, kept)
        assert (found.value.sum(1) / found.count.sum(1)).sum() == pytest.approx(float(recall[metric]), abs=1e-3)
    assert item_scores("mAP", kept) is None


def test_item_shares_of_a_classifier_add_up_to_its_metrics():
    rng = np.random.default_rng(0)
    label, has = rng.integers(0, 4, 60), rng.random(60) < 0.7
    logits = {name: rng.normal(size=(60, 4)).astype(np.float32) + np.eye(4)[label] for name in ("a", "b", "fused")}
    classified = evals.SplitLogits(logits, label, {"b": has})
    kept, found = evals.head_items(classified), evals.classification_metrics(classified)
    for metric, value in found.items():
        own = item_scores(metric, kept)
        assert own.value.sum() / own.count.sum() == pytest.approx(value, abs=1e-4), metric
    right = 100.0 * (sum(logits.values()).argmax(1) == label)
    gain = item_scores("gain_b", kept)
    assert gain.value.sum() / gain.count.sum() == pytest.approx(right[has].mean() - found["accuracy_b"])
    chance = item_scores("chance_b", kept)
    assert chance.value.sum() / chance.count.sum() == pytest.approx(100 * np.bincount(label[has]).max() / has.sum())
    assert item_scores("rsum", kept) is item_scores("accuracy_c", kept) is None
    assert item_scores("macro_f1", {"correct": kept["correct"]}) is None  # of an earlier version


def test_intervals_of_one_seed_cover_the_items_and_those_of_several_the_seeds_too():
    rng = np.random.default_rng(0)
    hit = 100.0 * (rng.random((5, 1, 80)) < np.array([0.5, 0.6, 0.7, 0.8, 0.9])[:, None, None])
    items = [ItemScores(one, np.ones((1, 80))) for one in hit]
    half = 1.96 * hit[2].std() / np.sqrt(80)
    (found,) = metric_intervals({"accuracy": items[2:3]}).values()
    assert found == pytest.approx((hit[2].mean() - half, hit[2].mean() + half), abs=1.5)
    zero = [ItemScores(np.zeros((1, 80)), np.ones((1, 80)))] * 5
    both = compare_paired([0.0] * 5, hit.mean((1, 2)), items=(zero, items)).both
    assert metric_intervals({"accuracy": items, "none": zero}) == {"accuracy": pytest.approx(both), "none": (0.0, 0.0)}


@pytest.mark.parametrize("metric", ["macro_f1", "mAP"])
def test_coverage_of_metrics_that_are_no_mean(metric):
    """95 % wanted; 200 simulations leave a standard error of 1.5 points. The rarest class has 30 samples."""
    rng = np.random.default_rng(0)

    def drawn(n):
        label = rng.choice(4, n, p=(0.4, 0.3, 0.2, 0.1))
        return evals.SplitLogits({"a": 2.0 * np.eye(4)[label] + rng.normal(size=(n, 4))}, label)

    truth, hits = evals.classification_metrics(drawn(100_000))[metric], 0
    for _ in range(200):
        items = item_scores(metric, evals.head_items(drawn(300)))
        low, high = metric_intervals({metric: [items]}, resamples=500)[metric]
        hits += low <= truth <= high
    assert 0.90 <= hits / 200 <= 0.99
