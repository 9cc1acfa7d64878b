"""Calibration against numbers that can be worked out by hand, and against a direct computation."""

import numpy as np
import pytest

from alignment_jax.evals import calibration, fit_temperature
from alignment_jax.evals.calibration import answer_queries, pair_similarities, reliability_bins


def pairs(seed=0, n=12, captions=3, d=5):
    rng = np.random.default_rng(seed)
    za = rng.standard_normal((n, d))
    owner = rng.permutation(np.repeat(np.arange(n), captions))
    zb = za[owner] + 0.8 * rng.standard_normal((n * captions, d))
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (za, zb)]
    return unit[0], unit[1], owner


def test_a_direct_computation_agrees():
    za, zb, owner = pairs()
    s = za @ zb.T / 0.1
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    by_item = np.stack([p[:, owner == i].sum(axis=1) for i in range(len(za))], axis=1)
    first = owner[s.argmax(axis=1)]
    found = answer_queries(za, zb, owner, "a2b", temperature=0.1, block=40)
    np.testing.assert_allclose(found.confidence, by_item[np.arange(12), first])
    np.testing.assert_array_equal(found.correct, first == np.arange(12))
    np.testing.assert_allclose(found.entropy, -(by_item * np.log(by_item)).sum(axis=1))
    np.testing.assert_allclose(found.log_true, np.log(np.diag(by_item)))
    wrong = np.where(owner[None] == np.arange(12)[:, None], -np.inf, za @ zb.T)
    np.testing.assert_allclose(found.hardest, wrong.max(axis=1))

    p = np.exp(s.T) / np.exp(s.T).sum(axis=1, keepdims=True)
    found = answer_queries(za, zb, owner, "b2a", temperature=0.1)
    np.testing.assert_allclose(found.confidence, p.max(axis=1))
    np.testing.assert_allclose(found.log_true, np.log(p[np.arange(36), owner]))


def test_accuracy_is_the_recall_at_one_for_every_block():
    from alignment_jax.metrics import retrieval_recall

    za, zb, owner = pairs(seed=3)
    za[1] = za[0]  # ties count against the query in both
    recall = retrieval_recall(za, zb, owner, ks=(1,))
    for block in (1, 50, 10**6):
        found = calibration(za, zb, owner, temperature=0.05, block=block)
        assert 100 * found["a2b_accuracy"] == pytest.approx(recall["a2b_R@1"])
        assert 100 * found["b2a_accuracy"] == pytest.approx(recall["b2a_R@1"])


def test_one_caption_more_or_less_sure_is_a_calibration_error():
    # Ten queries in bins of known confidence: 0.8 sure and right half of the time -> error 0.3.
    table = reliability_bins(np.full(10, 0.8), np.arange(10) % 2 == 0, bins=10)
    assert table == [{"low": 0.7, "high": 0.8, "count": 10, "confidence": pytest.approx(0.8), "accuracy": 0.5}]


def test_bins_are_open_below_and_closed_above():
    table = reliability_bins(np.array([0.0, 0.5, 0.500001, 1.0]), np.ones(4, bool), bins=2)
    assert [row["count"] for row in table] == [2, 2]


def test_similarities_of_true_and_wrong_pairs():
    za, zb, owner = pairs()
    s = za @ zb.T
    mine = owner[None] == np.arange(12)[:, None]
    true, wrong = pair_similarities(za, zb, owner)
    assert true == pytest.approx(s[mine].mean())
    assert wrong == pytest.approx(s[~mine].mean())
    assert np.isnan(pair_similarities(za[:1], zb[:1], np.array([0]))[1])


def test_probabilities_that_underflow_stay_finite():
    za, zb, owner = pairs()
    found = calibration(za, zb, owner, temperature=1e-4)
    assert all(np.isfinite(value) for value in found.values() if isinstance(value, float))


def test_the_fitted_temperature_is_the_one_that_made_the_answers():
    # Right answers drawn from a softmax at temperature 0.2: the best fit must find it again.
    rng = np.random.default_rng(0)
    za = rng.standard_normal((40, 8))
    za /= np.linalg.norm(za, axis=1, keepdims=True)
    zb = rng.standard_normal((1500, 8))
    zb /= np.linalg.norm(zb, axis=1, keepdims=True)
    p = np.exp(zb @ za.T / 0.2)
    owner = (p.cumsum(axis=1) / p.sum(axis=1, keepdims=True) > rng.random((1500, 1))).argmax(axis=1)
    grid = tuple(np.geomspace(0.02, 2.0, 17))

    def nll(t):
        return -answer_queries(za, zb, owner, "b2a", temperature=t).log_true.mean()

    assert min(grid, key=nll) == pytest.approx(0.2, rel=0.35)
    best = min(grid, key=lambda t: nll(t) - answer_queries(za, zb, owner, "a2b", temperature=t).log_true.mean())
    assert fit_temperature(za, zb, owner, grid=grid) == best


def test_a_part_of_the_queries_is_enough_to_fit():
    za, zb, owner = pairs(n=60)
    whole = fit_temperature(za, zb, owner)
    assert fit_temperature(za, zb, owner, block=100) == whole
    assert fit_temperature(za, zb, owner, most=40) == pytest.approx(whole, rel=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "positive"),
        ({"b_to_a": np.array([0, 5])}, r"\[0, 2\)"),
        ({"b_to_a": np.array([0.0, 1.0])}, "integers"),
        ({"zb": np.eye(3)}, "shapes"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"za": np.eye(2), "zb": np.eye(2), "b_to_a": np.arange(2), "temperature": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        calibration(**arguments)
