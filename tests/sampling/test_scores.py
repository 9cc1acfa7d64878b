"""Balance scores: ranges, degenerate input, invariances, and errors that name the sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alignment_jax import sampling

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
vectors = hnp.arrays(np.float64, st.integers(1, 30), elements=finite)
small = st.floats(-50, 50)


@given(vectors)
def test_min_max_stays_in_the_unit_interval_and_keeps_order(x):
    y = sampling.min_max(x)
    assert y.dtype == np.float64
    assert np.all((y >= 0) & (y <= 1))
    if x.min() < x.max():
        assert y[x.argmin()] == 0
        assert y[x.argmax()] == 1
        assert np.all(np.diff(y[np.argsort(x, kind="stable")]) >= 0)
    else:
        assert not y.any()


def test_integers_and_float32_become_float64():
    assert sampling.min_max(np.array([1, 3, 2])).tolist() == [0.0, 1.0, 0.5]
    assert sampling.min_max(np.float32([1, 3])).dtype == np.float64


@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 3), st.integers(1, 6), st.integers(1, 5)), elements=small))
def test_prediction_similarity_is_the_mean_cosine_of_softmax_outputs(logits):
    exps = np.exp(logits - logits.max(axis=2, keepdims=True))
    p = exps / exps.sum(axis=2, keepdims=True)
    p /= np.sqrt((p * p).sum(axis=2, keepdims=True))
    pairs = [(k, m) for k in range(len(p)) for m in range(k)]
    want = sum((p[k] * p[m]).sum(axis=1) for k, m in pairs) / len(pairs)
    np.testing.assert_allclose(sampling.prediction_similarity(list(logits)), want, atol=1e-12)


def test_similarity_does_not_depend_on_the_order_of_the_modalities_or_a_shift_of_logits():
    rng = np.random.default_rng(0)
    logits = list(rng.normal(size=(3, 7, 4)))
    want = sampling.prediction_similarity(logits)
    np.testing.assert_allclose(sampling.prediction_similarity(logits[::-1]), want, rtol=1e-14)
    np.testing.assert_allclose(sampling.prediction_similarity([x + 1000.0 for x in logits]), want, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_feature_similarity_ignores_scale_and_survives_zero_vectors(scale):
    za = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]) * scale
    zb = np.array([[4.0, 3.0], [1.0, 1.0], [-2.0, 0.0]])
    np.testing.assert_allclose(sampling.feature_similarity([za, zb]), [0.96, 0.0, -1.0], rtol=1e-14)


def test_balance_score_is_low_for_agreeing_easy_samples():
    score = sampling.balance_score([0.9, 0.1, 0.5], [0.1, 3.0, 1.0])
    assert score.argmin() == 0
    assert score.argmax() == 1


def test_a_criterion_left_out_equals_a_constant_one():
    x = [0.3, 0.1, 0.8]
    constant = [5.0, 5.0, 5.0]
    np.testing.assert_array_equal(sampling.balance_score(x, None), sampling.balance_score(x, constant))
    np.testing.assert_array_equal(sampling.balance_score(None, x), sampling.balance_score(constant, x))
    np.testing.assert_array_equal(
        sampling.sampling_probabilities(None, x), sampling.sampling_probabilities(constant, x)
    )


def test_all_samples_alike_gives_uniform_probabilities_not_nan():
    p = sampling.sampling_probabilities(np.ones(5), np.ones(5))
    np.testing.assert_array_equal(p, np.full(5, 0.2))


@given(hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(1, 40)), elements=finite), st.floats(0, 10))
def test_probabilities_are_a_distribution(criteria, floor):
    p = sampling.sampling_probabilities(criteria[0], criteria[1], floor=floor)
    assert np.all(p >= 0)
    assert abs(p.sum() - 1) < 1e-12


def test_cross_entropy_and_gradient_agree_with_finite_differences():
    rng = np.random.default_rng(3)
    logits = [rng.normal(size=(4, 3)) for _ in range(2)]
    labels, weights = np.array([0, 2, 1, 1]), (0.9, 0.1)
    step, squares = 1e-6, np.zeros(4)
    for k in range(2):
        for c in range(3):
            up, down = ([x.copy() for x in logits] for _ in range(2))
            up[k][:, c] += step
            down[k][:, c] -= step
            slope = sampling.cross_entropy(up, labels, weights=weights)
            slope = (slope - sampling.cross_entropy(down, labels, weights=weights)) / (2 * step)
            squares += slope**2
    got = sampling.gradient_magnitude(logits, labels, weights=weights)
    np.testing.assert_allclose(got, np.sqrt(squares), rtol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling.min_max([1.0, np.nan, np.inf]), r"\bx\b.*sample 1\b.*2 of 3"),
        (lambda: sampling.min_max([]), r"\bx\b.*\[n\]"),
        (lambda: sampling.min_max([[1.0]]), r"\bx\b.*\[n\]"),
        (lambda: sampling.balance_score([1.0, 2.0], [1.0]), "difficulty.*2.*1"),
        (lambda: sampling.balance_score(None, None), "similarity and difficulty"),
        (lambda: sampling.prediction_similarity([np.ones((3, 2))]), "logits.*2.*1"),
        (lambda: sampling.prediction_similarity(np.ones((3, 2))), r"logits.*\[n, d\]"),
        (
            lambda: sampling.prediction_similarity([np.ones((3, 2)), np.ones((2, 2))]),
            r"logits\[1\].*logits\[0\]",
        ),
        (lambda: sampling.feature_similarity([np.ones((2, 2)), np.full((2, 2), np.inf)]), r"features\[1\] .* sample 0"),
        (lambda: sampling.sampling_probabilities([1.0], [1.0], floor=-0.1), r"floor.*-0\.1"),
        (lambda: sampling.cross_entropy([np.ones((2, 3))], [0, 3]), r"labels\[1\].*\b3\b"),
        (lambda: sampling.cross_entropy([np.ones((2, 3))], [0.0, 1.0]), "labels.*float64"),
        (lambda: sampling.cross_entropy([np.ones((1, 3))], [0], weights=[1.0, 2.0]), "weights.*1.*2"),
    ],
)
def test_errors_name_the_argument_and_the_sample(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_jax_arrays_give_float32_under_jit_and_the_same_scores():
    rng = np.random.default_rng(1)
    logits, features = rng.normal(size=(3, 6, 4)), rng.normal(size=(3, 6, 5))
    labels, weights = rng.integers(0, 4, 6), (0.9, 0.9, 0.1)
    present = [np.array([True, True, False, False, True, True]), np.array([True, False, True, False, True, True]), None]

    def scores(logits, features, labels, present):
        return (
            sampling.cross_entropy(list(logits), labels, weights=weights, present=present),
            sampling.gradient_magnitude(
                list(logits), labels, weights=weights, features=list(features), present=present
            ),
            sampling.prediction_similarity(list(logits), present=present),
            sampling.feature_similarity(list(features), present=present),
        )

    expected = scores(logits, features, labels, present)
    found = jax.jit(scores)(jnp.asarray(logits), jnp.asarray(features), labels, present)
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, other.dtype) == (jnp.float32, np.float64)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
