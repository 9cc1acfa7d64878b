"""Orders: coverage, nesting, determinism, and the law of the weighted draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_jax import sampling

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
starts = st.floats(0, 1)


@given(st.integers(1, 5000), starts, st.integers(1, 100))
def test_pacing_grows_from_start_to_everything(n, start, epochs):
    shown = [sampling.pacing(e, n=n, start=start, epochs=epochs) for e in range(epochs + 3)]
    assert shown == sorted(shown)
    assert shown[0] >= max(1, int(n * start))
    assert shown[epochs - 1 :] == [n] * 4


@given(scores, starts, st.integers(1, 12), st.integers(0, 2**32), st.booleans())
def test_a_curriculum_shows_nested_growing_sets_of_the_best_samples(values, start, epochs, seed, reverse):
    x = np.array(values)
    earlier: set[int] = set()
    for epoch in range(epochs + 1):
        order = sampling.curriculum_order(x, epoch=epoch, seed=seed, start=start, epochs=epochs, reverse=reverse)
        shown = set(order.tolist())
        assert order.dtype == np.int64
        assert len(shown) == len(order) == sampling.pacing(epoch, n=len(x), start=start, epochs=epochs)
        assert earlier <= shown
        hidden = [v for i, v in enumerate(values) if i not in shown]
        if hidden and not reverse:
            assert x[order].max() <= min(hidden)
        if hidden and reverse:
            assert x[order].min() >= max(hidden)
        earlier = shown
    assert len(earlier) == len(x)


def test_ties_go_to_the_smaller_index_in_both_directions():
    for reverse in (False, True):
        order = sampling.curriculum_order(np.zeros(100), epoch=0, seed=1, reverse=reverse)
        assert sorted(order.tolist()) == list(range(18))


def test_a_full_curriculum_is_shuffled_and_differs_from_plain_shuffling():
    plain = sampling.shuffle_order(50, epoch=50, seed=0)
    full = sampling.curriculum_order(np.arange(50.0), epoch=50, seed=0)
    drawn = sampling.draw_order(np.full(50, 0.02), epoch=50, seed=0)
    orders = [np.arange(50), plain, full, drawn]
    for left, right in itertools.combinations(orders, 2):
        assert np.mean(left == right) < 0.2  # streams of one (seed, epoch) do not copy each other
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))


ORDERS = {
    "shuffle": lambda **kw: sampling.shuffle_order(40, **kw),
    "curriculum": lambda **kw: sampling.curriculum_order(np.arange(40.0), epochs=1, **kw),
    "draw": lambda **kw: sampling.draw_order(np.arange(40) / 780, **kw),
    "draw with replacement": lambda **kw: sampling.draw_order(np.arange(40) / 780, replacement=True, **kw),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_a_function_of_seed_and_epoch_only(name):
    order = ORDERS[name]
    first = order(epoch=3, seed=5)
    np.random.seed(0)  # noqa: NPY002  # the global generator plays no part
    assert np.array_equal(first, order(epoch=3, seed=5))
    assert not np.array_equal(first, order(epoch=4, seed=5))
    assert not np.array_equal(first, order(epoch=3, seed=6))
    assert not np.array_equal(order(epoch=1, seed=2), order(epoch=2, seed=1))


def test_orders_do_not_change_between_releases():
    """A run may be resumed in the middle of an epoch with a newer release, so the numbers are part of the contract."""
    assert sampling.shuffle_order(8, epoch=1, seed=0).tolist() == [1, 4, 6, 5, 7, 3, 2, 0]
    assert sampling.curriculum_order(np.arange(8.0), epoch=1, seed=0, epochs=4).tolist() == [3, 0, 2, 1, 4]
    assert sampling.draw_order(np.arange(1, 9) / 36, epoch=1, seed=0).tolist() == [6, 7, 5, 2, 0, 4, 3, 1]


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50).filter(lambda w: sum(w) > 0), st.integers(0, 1000))
def test_a_weighted_permutation_shows_every_sample_once_and_impossible_ones_last(weights, epoch):
    p = np.array(weights) / np.sum(weights)
    order = sampling.draw_order(p, epoch=epoch, seed=1)
    assert sorted(order.tolist()) == list(range(len(p)))
    assert np.all(p[order][: np.count_nonzero(p)] > 0)
    again = sampling.draw_order(p, epoch=epoch, seed=1, replacement=True)
    assert again.shape == order.shape
    assert np.all(p[again] > 0)


def test_the_permutation_follows_the_law_of_successive_draws():
    p = np.array([0.5, 0.3, 0.15, 0.05])
    trials = 6000
    seen = dict.fromkeys(itertools.permutations(range(4)), 0)
    for epoch in range(trials):
        seen[tuple(sampling.draw_order(p, epoch=epoch, seed=11).tolist())] += 1
    law = {}
    for order in seen:
        left, probability = 1.0, 1.0
        for i in order:
            probability *= p[i] / left
            left -= p[i]
        law[order] = probability
    assert abs(sum(law.values()) - 1) < 1e-12
    # Rare permutations are pooled, because the chi-square test needs about five expected in each cell.
    common = [order for order in law if law[order] * trials >= 5]
    counts = [seen[order] for order in common] + [trials - sum(seen[order] for order in common)]
    expected = [law[order] * trials for order in common] + [trials * (1 - sum(law[order] for order in common))]
    chi_square = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))
    assert len(counts) >= 15
    assert chi_square < 51  # p = 0.001 at 23 degrees of freedom is 49.7; the seed is fixed


def test_early_places_are_taken_in_proportion_to_the_probabilities():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 2.0, size=30)
    p /= p.sum()
    trials = 4000
    first = np.bincount([sampling.draw_order(p, epoch=e, seed=2)[0] for e in range(trials)], minlength=30)
    np.testing.assert_array_less(np.abs(first - trials * p), 4.5 * np.sqrt(trials * p * (1 - p)))


def test_draws_with_replacement_are_independent_draws_from_p():
    p = np.array([0.6, 0.0, 0.3, 0.1])
    p = np.concatenate([p, np.zeros(996)])
    counts = np.bincount(sampling.draw_order(p, epoch=0, seed=0, replacement=True), minlength=1000)
    assert counts[1] == 0
    assert counts[4:].sum() == 0
    deviation = np.abs(counts[[0, 2, 3]] - 1000 * p[[0, 2, 3]])
    np.testing.assert_array_less(deviation, 4 * np.sqrt(1000 * p[[0, 2, 3]] * (1 - p[[0, 2, 3]])))


def test_the_smallest_probabilities_keep_their_order():
    p = np.array([1.0, 1e-300, 1e-320])
    order = sampling.draw_order(p, epoch=0, seed=0)
    assert order.tolist() == [0, 1, 2]


def test_a_million_samples_are_drawn_at_once():
    p = np.full(1_000_000, 1e-6)
    order = sampling.draw_order(p, epoch=0, seed=0)
    assert np.array_equal(np.sort(order), np.arange(1_000_000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling.curriculum_order([0.1, np.nan], epoch=0, seed=0), "scores.*sample 1"),
        (lambda: sampling.curriculum_order([0.1], epoch=-1, seed=0), r"\bepoch\b"),
        (lambda: sampling.curriculum_order([0.1], epoch=0, seed=-3), "seed.*-3"),
        (lambda: sampling.shuffle_order(3, epoch=0, seed=1.5), r"seed.*1\.5"),
        (lambda: sampling.shuffle_order(0, epoch=0, seed=0), r"\bn\b"),
        (lambda: sampling.pacing(0, n=0), r"\bn\b"),
        (lambda: sampling.pacing(0, n=5, start=1.5), r"start.*1\.5"),
        (lambda: sampling.pacing(0, n=5, epochs=0), "epochs.*0"),
        (lambda: sampling.draw_order([0.5, 0.6], epoch=0, seed=0), r"probabilities.*1\.1"),
        (lambda: sampling.draw_order([1.5, -0.5], epoch=0, seed=0), r"probabilities\[1\].*-0\.5"),
        (lambda: sampling.draw_order([np.inf, 0.5], epoch=0, seed=0), "probabilities.*sample 0"),
    ],
)
def test_errors_name_the_setting(call, message):
    with pytest.raises(ValueError, match=message):
        call()
