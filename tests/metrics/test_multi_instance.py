"""Multi-instance mAP and nDCG against the definition written out, and its edges."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from alignment_jax import metrics


def by_definition(s, r):
    """(mAP, nDCG) of rows as queries, one query and one place at a time; no ties in s."""
    aps, ndcgs = [], []
    for scores, relevancies in zip(s, r, strict=True):
        placed = relevancies[np.argsort(-scores)]
        if np.any(placed == 1):
            precisions = [placed[: k + 1].sum() / (k + 1) for k in range(len(placed)) if placed[k] == 1]
            aps.append(np.mean(precisions))
        count = int(np.sum(relevancies > 0))
        if count:
            gains = 1 / np.log2(np.arange(count) + 2)
            best = np.sort(relevancies)[::-1]
            ndcgs.append((placed[:count] * gains).sum() / (best[:count] * gains).sum())
    return np.mean(aps), np.mean(ndcgs)


def graded(seed, n, m):
    rng = np.random.default_rng(seed)
    r = rng.choice([0.0, 0.25, 0.5, 1.0], p=[0.5, 0.2, 0.1, 0.2], size=(n, m))
    r[0, 0] = 1.0
    return rng.permutation(n * m).reshape(n, m) / (n * m), r


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_both_directions_follow_the_definition(seed, n, m):
    s, r = graded(seed, n, m)
    ours = metrics.multi_instance(s, r)
    assert list(ours) == ["mAP_a2b", "mAP_b2a", "mAP", "nDCG_a2b", "nDCG_b2a", "nDCG"]
    for direction, (x, y) in {"a2b": (s, r), "b2a": (s.T, r.T)}.items():
        want_map, want_ndcg = by_definition(x, y)
        assert ours[f"mAP_{direction}"] == pytest.approx(want_map, abs=1e-12)
        assert ours[f"nDCG_{direction}"] == pytest.approx(want_ndcg, abs=1e-12)
    assert ours["mAP"] == pytest.approx((ours["mAP_a2b"] + ours["mAP_b2a"]) / 2)
    assert ours["nDCG"] == pytest.approx((ours["nDCG_a2b"] + ours["nDCG_b2a"]) / 2)


def test_binary_relevancy_is_the_usual_average_precision():
    s, r = graded(1, 30, 20)
    r = (r == 1).astype(float)
    r[:, 3] = 1.0
    want = np.mean([average_precision_score(y, x) for x, y in zip(s, r, strict=True)])
    assert metrics.multi_instance(s, r)["mAP_a2b"] == pytest.approx(want, abs=1e-12)


def test_more_queries_than_one_block():
    s, r = graded(2, 1100, 5)
    assert metrics.multi_instance(s, r)["mAP_a2b"] == pytest.approx(by_definition(s, r)[0], abs=1e-12)


def test_queries_without_an_answer_are_left_out():
    s, r = graded(3, 6, 5)
    r[2] = 0.0
    kept = [0, 1, 3, 4, 5]
    ours, without = metrics.multi_instance(s, r), metrics.multi_instance(s[kept], r[kept])
    assert ours["mAP_a2b"] == without["mAP_a2b"]
    assert ours["nDCG_a2b"] == without["nDCG_a2b"]
    assert np.isfinite(list(ours.values())).all()


def test_no_query_left_is_nan_for_that_measure_only():
    scores = metrics.multi_instance(np.eye(3), 0.5 * np.eye(3))
    assert np.isnan(scores["mAP"])
    assert scores["nDCG"] == 1.0
    assert np.isnan(list(metrics.multi_instance(np.eye(2), np.zeros((2, 2))).values())).all()


def test_ties_count_against_the_query():
    scores = metrics.multi_instance(np.zeros((1, 4)), np.array([[1.0, 0.0, 0.0, 0.0]]))
    assert scores["mAP_a2b"] == 0.25
    assert scores["nDCG_a2b"] == 0.0


def test_under_jit_the_numbers_are_the_same():
    s, r = graded(5, 20, 30)
    r[4] = 0.0
    jitted = jax.jit(metrics.multi_instance)(s, r)
    for key, value in metrics.multi_instance(s, r).items():
        assert float(jitted[key]) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_under_jit_relevancy_of_whole_numbers_is_the_same(dtype):
    s, r = graded(6, 5, 400)  # more candidates than a uint8 can number
    r = r == 1
    jitted = jax.jit(metrics.multi_instance)(s, r.astype(dtype))
    for key, value in metrics.multi_instance(s, r).items():
        assert float(jitted[key]) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.multi_instance(np.ones((2, 3)), np.ones((3, 2))), "similarity and relevancy"),
        (lambda: metrics.multi_instance(np.ones(3), np.ones(3)), "similarity and relevancy"),
        (lambda: metrics.multi_instance([[1.0, np.nan]], [[1.0, 0.0]]), r"similarity\[0, 1\]"),
        (lambda: metrics.multi_instance([[1.0, 0.0]], [[1.0, 2.0]]), r"relevancy\[0, 1\].*2\.0"),
        (lambda: metrics.multi_instance([[1.0, 0.0]], [[np.nan, 0.0]]), r"relevancy\[0, 0\].*nan"),
    ],
)
def test_errors_name_the_entry(call, message):
    with pytest.raises(ValueError, match=message):
        call()
