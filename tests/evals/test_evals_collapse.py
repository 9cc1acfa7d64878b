"""Variance, participation ratio and effective rank of embeddings, and when they are too small."""

import numpy as np
import pytest

from alignment_jax.evals import SplitEmbeddings, collapse_metrics, collapse_warning, collapsed_sides, effective_rank


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def measured(a, b=None):
    return collapse_metrics(SplitEmbeddings(a, a if b is None else b, np.arange(len(a))))


@pytest.mark.parametrize("n", [20, 5000])  # fewer and more rows than dimensions, and more than are taken
def test_random_directions_fill_the_space(n):
    found = measured(unit(np.random.default_rng(0).normal(size=(n, 32))))
    assert found["variance_a"] == pytest.approx(1.0, abs=0.06)
    assert effective_rank(unit(np.random.default_rng(0).normal(size=(n, 32)))) > 0.9 * min(n - 1, 32)
    # Eigenvalues of a sample covariance spread by the law of Marchenko and Pastur: 1 / ratio = 1 / d + 1 / (n - 1).
    assert found["participation_a"] == pytest.approx(1 / (1 / 32 + 1 / (min(n, 1000) - 1)), rel=0.1)
    assert collapse_warning(found) == ""


def test_the_rank_is_that_of_the_subspace():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3)) @ np.linalg.qr(rng.normal(size=(16, 3)))[0].T
    assert effective_rank(rows) == pytest.approx(3.0, abs=0.05)
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert measured(rows.astype(np.float32))["participation_a"] == pytest.approx(expected, rel=1e-4)


def test_equal_rows_are_a_collapse_and_no_nan():
    good = unit(np.random.default_rng(0).normal(size=(30, 8)))
    found = measured(good, np.tile(good[:1], (30, 1)))
    assert found["participation_b"] == found["variance_b"] == 0.0
    assert all(np.isfinite(value) for value in found.values())
    warning = collapse_warning(found, names=("image", "text"))
    assert "text" in warning
    assert "image" not in warning


def test_a_line_is_a_collapse_too():
    angle = np.linspace(-1e-3, 1e-3, 50)
    assert collapsed_sides(measured(np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1))) == ("a", "b")


def test_one_item_is_no_error():
    assert measured(np.ones((1, 4), np.float32))["participation_a"] == effective_rank(np.ones((1, 4))) == 0.0
