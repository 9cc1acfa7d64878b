"""Classification metrics against scikit-learn, ties and absent classes included."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from alignment_jax import metrics


def random_case(seed, n, c, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, size=(n, c)) / levels
    return scores, rng.integers(0, c, size=n)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6), st.sampled_from([2, 5, 1000]))
def test_metrics_are_those_of_scikit_learn(seed, n, c, levels):
    scores, labels = random_case(seed, n, c, levels)
    predicted = scores.argmax(axis=1)
    assert metrics.accuracy(scores, labels) == pytest.approx(100 * accuracy_score(labels, predicted), abs=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that do not occur
        f1 = f1_score(labels, predicted, average="macro")
        precision = [average_precision_score(labels == k, scores[:, k]) for k in range(c)]
    assert metrics.macro_f1(scores, labels) == pytest.approx(100 * f1, abs=1e-10)
    assert metrics.mean_average_precision(scores, labels) == pytest.approx(100 * np.mean(precision), abs=1e-10)
    present = np.unique(labels)
    want = 100 * np.mean(np.array(precision)[present])
    assert metrics.mean_average_precision(scores, labels, skip_absent=True) == pytest.approx(want, abs=1e-10)


def test_under_jit_the_numbers_are_the_same():
    scores, labels = random_case(3, 50, 4, 7)
    for metric in (metrics.accuracy, metrics.macro_f1, metrics.mean_average_precision):
        assert float(jax.jit(metric)(scores, labels)) == pytest.approx(metric(scores, labels), rel=2e-6)
        assert type(metric(jnp.asarray(scores), jnp.asarray(labels))) is float


def test_a_perfect_classifier_scores_100():
    scores, labels = np.eye(5)[[0, 1, 2, 3, 4, 0]], np.array([0, 1, 2, 3, 4, 0])
    assert metrics.accuracy(scores, labels) == 100.0
    assert metrics.macro_f1(scores, labels) == 100.0
    assert metrics.mean_average_precision(scores, labels) == 100.0


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.macro_f1, metrics.mean_average_precision])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.ones(3), [0, 1, 2], r"scores.*\[n, c\]"),
        (np.ones((0, 3)), [], r"scores.*\[n, c\]"),
        (np.ones((2, 3)), [0], "labels.*2"),
        (np.ones((2, 3)), [0, 3], r"labels\[1\].*\b3\b"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), [0, 1], "scores.*row 1"),
    ],
)
def test_errors_name_the_argument_and_the_row(metric, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(scores, labels)


def weighted_f1(scores, labels, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return 100 * f1_score(labels, scores.argmax(axis=1), average="macro", sample_weight=weight)


def weighted_map(scores, labels, weight):
    precision = [average_precision_score(labels == k, scores[:, k], sample_weight=weight) for k in np.unique(labels)]
    return 100 * np.mean(precision)


PSEUDO_VALUES = {
    "macro F1": (metrics.macro_f1_pseudo_values, weighted_f1),
    "mAP": (functools.partial(metrics.mean_average_precision_pseudo_values, skip_absent=True), weighted_map),
}


@pytest.mark.parametrize("name", PSEUDO_VALUES)
@pytest.mark.parametrize(("n", "c", "levels"), [(12, 3, 4), (30, 5, 1000), (9, 6, 2)])
def test_pseudo_values_are_the_derivative_of_scikit_learns_weighted_metric(name, n, c, levels):
    """A central difference of step h has an error of order h^2; scikit-learn rounds at 1e-16 / h."""
    own, reference = PSEUDO_VALUES[name]
    scores, labels = random_case(n, n, c, levels)
    found, step = own(scores, labels), 1e-5
    assert found.mean() == pytest.approx(reference(scores, labels, np.ones(n)), abs=1e-10)
    for i in range(n):
        weight = np.ones(n) + step * (np.arange(n) == i)
        less = np.ones(n) - step * (np.arange(n) == i)
        slope = (reference(scores, labels, weight) - reference(scores, labels, less)) / (2 * step)
        assert found[i] == pytest.approx(found.mean() + n * slope, abs=1e-4)


@pytest.mark.parametrize("name", PSEUDO_VALUES)
def test_pseudo_values_have_the_standard_error_of_the_bootstrap(name):
    own, reference = PSEUDO_VALUES[name]
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 300, p=(0.4, 0.3, 0.2, 0.1))
    scores = 1.5 * np.eye(4)[labels] + rng.normal(size=(300, 4))
    draws = rng.multinomial(300, np.full(300, 1 / 300), size=200)
    values = [reference(scores, labels, weight) for weight in draws]
    assert own(scores, labels).std() / np.sqrt(300) == pytest.approx(np.std(values), rel=0.2)
