"""Folded vectors rank as corrected scores do, and a correction is kept only where it helps."""

import dataclasses

import numpy as np
import pytest

from alignment_jax.core.errors import ConfigError
from alignment_jax.evals import (
    QueryBank,
    SplitEmbeddings,
    choose_correction,
    fold_embeddings,
    hubness_metrics,
    metrics_with_hubness,
    recall_metrics,
)
from alignment_jax.retrieval import HubnessCorrection

CORRECTIONS = ("nnn:k=5,strength=0.7", "csls:k=3", "inverted_softmax:temperature=0.1")


def unit(z):
    return (z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(np.float32)


def pairs(seed, n=60, captions=2, hubs=1.0):
    """Noisy pairs in which some items of both sides lean to a direction that all items share."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    common = world.normal(size=8)
    code = rng.normal(size=(n, 8)) + common
    owner = np.repeat(np.arange(n), captions)
    a = code + 0.5 * rng.normal(size=code.shape) + hubs * rng.exponential(size=(n, 1)) * common
    b = code[owner] + 0.5 * rng.normal(size=(n * captions, 8)) + hubs * rng.exponential(size=(n * captions, 1)) * common
    return SplitEmbeddings(unit(a), unit(b), owner)


def bias(name, candidates, queries):
    """The formulas on the whole matrix, in float64."""
    s = candidates.astype(np.float64) @ queries.astype(np.float64).T
    if name == "inverted_softmax":
        return 0.1 * np.log(np.mean(np.exp(s / 0.1), axis=1))
    k, factor = {"nnn": (5, 0.7), "csls": (3, 0.5)}[name]
    return factor * np.sort(s, axis=1)[:, ::-1][:, :k].mean(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("text", CORRECTIONS)
def test_folded_vectors_give_the_corrected_scores_in_both_directions(text):
    correction = HubnessCorrection.parse(text)
    assert str(correction) == text
    embedded, train = pairs(1), pairs(2, n=90)
    bank = QueryBank(train.a, train.b)
    folded = fold_embeddings(embedded, bank, correction)
    a, b = embedded.a.astype(np.float64), embedded.b.astype(np.float64)
    expected = a @ b.T - bias(correction.name, a, bank.b)[:, None] - bias(correction.name, b, bank.a)
    # Similarities of unit vectors, three numbers a score: 10 products and sums, each of at most 3.
    np.testing.assert_allclose(folded.a @ folded.b.T, expected, atol=60 * np.finfo(np.float32).eps)
    # Subtracting only the candidates' bias gives the same ranking; the metrics are those of that ranking.
    own = a @ b.T - bias(correction.name, b, bank.a)
    rank = [(own[i] >= own[i, embedded.b_to_a == i].max()).sum() - 1 for i in range(len(a))]
    expected_recall = 100 * np.mean([r < 1 for r in rank])
    found = metrics_with_hubness(recall_metrics, embedded, folded)
    assert found["corrected/a2b_R@1"] == pytest.approx(expected_recall)
    assert found["rsum"] == recall_metrics(embedded)["rsum"]
    assert found["corrected/b2a_skewness"] == hubness_metrics(folded)["b2a_skewness"]


def test_equal_rows_stay_equal_so_that_a_collapsed_model_still_scores_nothing():
    embedded, train = pairs(1), pairs(2, n=90)
    collapsed = dataclasses.replace(embedded, b=np.repeat(embedded.b[:1], len(embedded.b), axis=0))
    folded = fold_embeddings(collapsed, QueryBank(train.a, train.b), HubnessCorrection("nnn"))
    assert len(np.unique(folded.b, axis=0)) == 1
    assert recall_metrics(folded)["a2b_R@10"] == 0.0


def test_the_choice_corrects_hubs_and_leaves_pairs_without_hubs_alone():
    val, train = pairs(3, hubs=2.0), pairs(4, n=90, hubs=2.0)
    bank = QueryBank(train.a, train.b)
    found, best, plain = choose_correction(val, bank)
    assert found.name == "nnn"
    assert best == recall_metrics(fold_embeddings(val, bank, found))["rsum"] > plain
    assert hubness_metrics(fold_embeddings(val, bank, found))["b2a_skewness"] < hubness_metrics(val)["b2a_skewness"]
    perfect = dataclasses.replace(val, b=val.a[val.b_to_a])  # nothing is better than every answer in first place
    assert not choose_correction(perfect, bank)[0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nnm", "nnn"),
        ("nnn:k=0", "k must"),
        ("nnn:k=two", "k="),
        ("nnn:k", "k="),
        ("nnn:strength=0", "strength"),
        ("nnn:strength=nan", "strength"),
        ("nnn:alpha=1", "alpha"),
        ("csls:strength=1", "strength"),
        ("inverted_softmax:temperature=-1", "temperature"),
        ("none:k=3", "none has no k"),
    ],
)
def test_a_wrong_correction_names_the_setting_and_the_option(text, named):
    with pytest.raises(ConfigError, match=f"--hubness.*{named}"):
        HubnessCorrection.parse(text, setting="--hubness")
