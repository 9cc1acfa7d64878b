"""Samplers as pure functions of (state, epoch): coverage, schedules, scores from a pass and from training."""

import dataclasses
import itertools

import numpy as np
import pytest

from alignment_jax import sampling
from alignment_jax.core.errors import ConfigError, RunError
from alignment_jax.sampling.orders import ORDERS
from alignment_jax.sampling.sampler import Sampler

N = 50


def make(method="curriculum", **options):
    defaults = {"criteria": {"similarity": "prediction_similarity", "difficulty": "loss"}, "epochs": 8}
    return Sampler(size=N, seed=3, method=method, **{**defaults, "label": np.arange(N) % 7 // 6, **options})


def measured(size=7, seed=0):
    """The whole set in padded batches, as a scoring pass gives it."""
    rng = np.random.default_rng(seed)
    similarity, loss = rng.random(N).astype(np.float32), rng.random(N).astype(np.float32)
    batches = []
    for start in range(0, N, size):
        index = np.arange(start, start + size)
        where = index < N
        index = np.where(where, index, -1)
        padded = [np.where(where, value[index], np.nan) for value in (similarity, loss)]
        batches.append({"index": index, "where": where, "prediction_similarity": padded[0], "loss": padded[1]})
    return batches, similarity, loss


@pytest.mark.parametrize("method", ORDERS)
@pytest.mark.parametrize("scores", ["fresh", "recycled"])
def test_every_order_has_the_right_length_and_repeats_only_with_replacement(method, scores):
    sampler = make(method, scores=scores)
    for epoch in range(10):
        order = sampler.order(sampler.scores_from_pass(measured(seed=epoch)[0]), epoch)
        assert order.dtype == np.int64
        assert len(order) == sampler.shown(epoch)
        assert len(set(order.tolist())) == len(order) or ORDERS[method].labels
    assert sampler.shown(10) == N


def test_replacement_repeats():
    sampler = make("probabilistic", replacement=True)
    order = sampler.order(sampler.scores_from_pass(measured()[0]), 0)
    assert len(order) == N
    assert len(set(order.tolist())) < N


def test_orders_are_those_of_the_sampling_room():
    batches, similarity, loss = measured()
    score = sampling.balance_score(similarity, loss)
    for method, reverse in (("curriculum", False), ("anti_curriculum", True)):
        sampler = make(method)
        expected = sampling.curriculum_order(score, epoch=2, seed=3, epochs=8, reverse=reverse)
        np.testing.assert_array_equal(sampler.order(sampler.scores_from_pass(batches), 2), expected)
    sampler = make("probabilistic")
    expected = sampling.draw_order(sampling.sampling_probabilities(similarity, loss), epoch=2, seed=3)
    np.testing.assert_array_equal(sampler.order(sampler.scores_from_pass(batches), 2), expected)


@pytest.mark.parametrize("left", ["similarity", "difficulty"])
def test_a_criterion_can_be_left_out(left):
    batches, s, d = measured()
    name = {"similarity": "prediction_similarity", "difficulty": "loss"}[left]
    sampler = make(criteria={left: name}, start=0.5)
    score = sampling.balance_score(s if left == "similarity" else None, d if left == "difficulty" else None)
    expected = sampling.curriculum_order(score, epoch=0, seed=3, start=0.5, epochs=8)
    np.testing.assert_array_equal(sampler.order(sampler.scores_from_pass(batches), 0), expected)


def test_a_pass_must_measure_every_sample_once_in_any_order():
    batches, similarity, _ = measured()
    sampler = make()
    np.testing.assert_array_equal(sampler.scores_from_pass(batches[::-1])["similarity"], similarity)
    for wrong in (batches[:-1], [*batches, batches[0]]):
        with pytest.raises(ValueError, match=r"measured.*50"):
            sampler.scores_from_pass(wrong)


@pytest.mark.parametrize("method", ["curriculum", "anti_curriculum"])
def test_equal_scores_are_ranked_by_chance_and_alike_in_every_epoch(method):
    """A data set sorted by class must not start with one class while no sample has a score yet."""
    sampler, scores = make(method), {"difficulty": np.r_[np.zeros(5), np.ones(N - 5)].astype(np.float32)}
    shown = [set(sampler.order(scores, epoch).tolist()) for epoch in range(4)]
    assert all(earlier < later for earlier, later in itertools.pairwise(shown))
    untold = shown[0] - set(range(5))
    if method == "curriculum":
        assert set(range(5)) <= shown[0]
    assert untold != set(range(5, 5 + len(untold)))
    other = dataclasses.replace(sampler, seed=4)
    assert set(other.order(scores, 0).tolist()) != shown[0]


def test_a_score_that_is_not_finite_is_named():
    batches, _, _ = measured()
    batches[1]["loss"][2] = np.inf
    with pytest.raises(RunError, match=r"loss.*sample 9.*50"):
        make().scores_from_pass(batches)


@pytest.mark.parametrize(
    ("scores", "every", "expected"),
    [
        ("fresh", 1, [0, 1, 2, 3, 4, 5]),
        ("fresh", 2, [0, 2, 4]),
        ("fresh", 0, [0]),
        ("recycled", 1, [1, 2, 3, 4, 5]),
        ("recycled", 3, [1, 4]),
        ("recycled", 0, [1]),
    ],
)
def test_scores_are_taken_every_few_epochs(scores, every, expected):
    sampler = make(scores=scores, rescore_every=every)
    assert [epoch for epoch in range(6) if sampler.due(epoch)] == expected
    assert not any(Sampler(size=N, seed=0).due(epoch) for epoch in range(6))


def test_samples_never_seen_count_as_the_mean_of_the_others():
    sampler = make(scores="recycled")
    seen = np.arange(N) < 3
    running = {"difficulty": np.where(seen, [1.0, 2.0, 6.0] + [0.0] * (N - 3), 0.0).astype(np.float32)}
    settled = sampler.scores_from_running(running, seen)["difficulty"]
    assert settled.dtype == np.float32
    assert settled[:5].tolist() == [1.0, 2.0, 6.0, 3.0, 3.0]
    assert not sampler.scores_from_running(running, np.zeros(N, bool))["difficulty"].any()


def test_recycling_starts_with_a_plain_epoch_and_then_the_schedule():
    recycled, fresh = make(scores="recycled"), make()
    assert recycled.shown(0) == N
    assert [recycled.shown(e + 1) for e in range(9)] == [fresh.shown(e) for e in range(9)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "random"}, r"sampling\.name"),
        ({"scores": "old"}, r"sampling\.scores"),
        ({"rescore_every": -1}, "rescore_every"),
        ({"floor": -1.0}, "floor"),
        ({"start": 2.0}, "start"),
        ({"epochs": 0}, "epochs"),
        ({"criteria": {}}, r"sampling\.similarity.*sampling\.difficulty"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**{"method": "curriculum", **options})


def test_a_balanced_order_shows_every_class_equally_often():
    label = np.repeat([0, 1, 2], [40, 9, 1])
    sampler = make("class_balanced", label=label)
    shown = [sampler.order({}, epoch) for epoch in range(20)]
    counts = [np.bincount(label[order]) for order in shown]
    assert all(sorted(count.tolist()) == [16, 17, 17] for count in counts)
    assert len({tuple(count) for count in counts}) > 1  # not always the same class is shown less
    assert not np.array_equal(np.sort(shown[0]), np.sort(shown[1]))  # a frequent class shows others each time
    of_second = np.bincount(shown[0])[40:49]
    assert of_second.max() - of_second.min() <= 1
    assert {int(i) for order in shown for i in order} == set(range(N))


def test_a_sample_without_a_pair_has_the_mean_similarity():
    batches, similarity, loss = measured()
    paired = np.arange(N) % 5 != 0
    sampler = make(paired=paired)
    fresh = sampler.scores_from_pass(batches)
    np.testing.assert_allclose(fresh["similarity"], np.where(paired, similarity, similarity[paired].mean()), rtol=1e-6)
    np.testing.assert_array_equal(fresh["difficulty"], loss)
    seen = np.arange(N) < 20
    settled = sampler.scores_from_running({"similarity": similarity, "difficulty": loss}, seen)
    expected = similarity[seen & paired].mean()
    np.testing.assert_allclose(settled["similarity"], np.where(seen & paired, similarity, expected), rtol=1e-6)
    np.testing.assert_allclose(settled["difficulty"], np.where(seen, loss, loss[seen].mean()), rtol=1e-6)
