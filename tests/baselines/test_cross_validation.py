import dataclasses

import numpy as np
import pytest

from alignment_jax import baselines, metrics, retrieval
from alignment_jax.core import ConfigError

pytestmark = pytest.mark.optimized

CORRECTED = dict(neighbours=(4,), strengths=(0.0, 0.5))


def pairs(n=90, captions=2, d_a=12, d_b=8, noise=0.7, seed=0):
    """Latents of n items, `captions` each, with some signal in all of few directions."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 5))
    own = np.repeat(np.arange(n), captions)
    za = shared @ rng.normal(size=(5, d_a)) + noise * rng.normal(size=(2, n, d_a))
    zb = shared[own] @ rng.normal(size=(5, d_b)) + noise * rng.normal(size=(n * captions, d_b))
    return za.astype(np.float32), zb.astype(np.float32), own


def test_each_item_is_held_out_once_and_never_fitted_there():
    own = np.repeat(np.arange(90), 2)
    folds = baselines.hold_out(90, 180, b_to_a=own, folds=4, seed=1)
    assert sorted(np.concatenate([fold.scored_a for fold in folds])) == list(range(90))
    for fold in folds:
        assert not np.intersect1d(fold.scored_a, fold.train_a).size
        assert np.isin(own[fold.scored_b], fold.scored_a).all()
        np.testing.assert_array_equal(fold.train_a[fold.train_own], own[fold.train_b])
        assert np.isin(fold.bank_a, fold.train_a).all()
        assert np.isin(fold.bank_b, fold.train_b).all()


def test_equal_items_share_a_fold_and_equal_texts_are_one_item():
    ids_a, ids_b = np.arange(90) // 3, np.arange(180) % 60
    for fold in baselines.hold_out(90, 180, b_to_a=np.repeat(np.arange(90), 2), ids_a=ids_a, ids_b=ids_b, folds=5):
        assert not np.intersect1d(ids_a[fold.scored_a], ids_a[fold.train_a]).size
        texts = ids_b[fold.scored_b]
        assert len(np.unique(texts)) == len(texts)
        own_texts = ids_b[2 * fold.scored_a][:, None] == texts
        np.testing.assert_array_equal(fold.partners, own_texts | (ids_b[2 * fold.scored_a + 1][:, None] == texts))


@pytest.mark.slow
def test_scores_are_those_of_the_metrics_and_of_the_corrected_similarities():
    za, zb, own = pairs()
    fold = baselines.hold_out(90, 180, b_to_a=own, folds=3)[0]
    project = baselines.fit_cca(za[0], zb, b_to_a=own, dim=4, shrinkage=0.5)
    a, bank_a = (baselines.mean_embedding(np.asarray(project[0](za[:, rows]))) for rows in (fold.scored_a, fold.bank_a))
    b, bank_b = (
        baselines.mean_embedding(np.asarray(project[1](zb[None, rows]))) for rows in (fold.scored_b, fold.bank_b)
    )
    found = fold.scores(a, b, bank_a, bank_b, **CORRECTED)
    place = np.searchsorted(fold.scored_a, own[fold.scored_b])
    assert found[4, 0.0][1] == pytest.approx(metrics.retrieval_recall(a, b, place)["rsum"], abs=1e-4)
    bias_a = retrieval.nnn_bias(a, bank_b, k=4, strength=0.5)
    bias_b = retrieval.nnn_bias(b, bank_a, k=4, strength=0.5)
    folded_a = np.concatenate([a, -np.asarray(bias_a)[:, None], np.ones((len(a), 1))], axis=1)
    folded_b = np.concatenate([b, np.ones((len(b), 1)), -np.asarray(bias_b)[:, None]], axis=1)
    assert found[4, 0.5][1] == pytest.approx(metrics.retrieval_recall(folded_a, folded_b, place)["rsum"], abs=1e-4)


def test_a_candidate_scores_as_its_own_fit_does():
    za, zb, own = pairs()
    folds = baselines.hold_out(90, 180, b_to_a=own, folds=3)
    grid = baselines.CcaGrid(
        shrinkages_a=(0.2, 0.6, 0.9), shrinkages_b=(0.4,), powers=(0.5, 1.0), dims=(2, 4, 99), **CORRECTED
    )
    found = baselines.cross_validate_cca(za, zb, grid, folds)
    assert {one.dim for one in found.settings} == {2, 4, 8}
    for one in (found.best(), found.best(corrected=False)):
        expected = []
        for fold in folds:
            project_a, project_b = baselines.fit_cca(
                za[:, fold.train_a],
                zb[fold.train_b],
                b_to_a=fold.train_own,
                shrinkage=one.shrinkage,
                dim=one.dim,
                power=one.power,
            )
            a, bank_a = (
                baselines.mean_embedding(np.asarray(project_a(za[:, rows]))) for rows in (fold.scored_a, fold.bank_a)
            )
            b, bank_b = (
                baselines.mean_embedding(np.asarray(project_b(zb[None, rows]))) for rows in (fold.scored_b, fold.bank_b)
            )
            scores = fold.scores(a, b, bank_a, bank_b, neighbours=(4,), strengths=(one.strength,))
            expected.append(scores[4, one.strength][0])
        place = found.settings.index(one)
        # The search works in float32: two nearly equal similarities may change places, one rank of 30.
        np.testing.assert_allclose(found.scores[:, place], expected, atol=0.02)
    assert found.best(corrected=False).strength == 0


def test_candidates_that_score_alike_leave_the_choice_to_the_start():
    def candidate(shrinkage):
        return baselines.CcaSettings((shrinkage, shrinkage), 4, 1.0, 16, 0.0)

    settings = tuple(map(candidate, (0.1, 0.5, 0.9)))
    scores = np.array([[0.50, 0.49, 0.30], [0.50, 0.52, 0.31], [0.54, 0.50, 0.32]])
    found = baselines.CrossValidation(settings, scores, 100 * scores, np.array([2, 0, 1]))
    assert found.best() == candidate(0.5)
    scores[:, 1] -= 0.1
    assert baselines.CrossValidation(settings, scores, 100 * scores, np.array([2, 0, 1])).best() == candidate(0.1)


def test_the_search_starts_at_the_nearest_candidates():
    za, zb, own = pairs()
    grid = baselines.CcaGrid(
        shrinkages_a=(0.1, 0.5, 0.9), shrinkages_b=(0.3, 0.6), powers=(1.0,), dims=(4,), start=(0.8, 0.4, 2.0)
    )
    found = baselines.cross_validate_cca(za, zb, grid, baselines.hold_out(90, 180, b_to_a=own, folds=2))
    (start,) = {one.shrinkage for one, steps in zip(found.settings, found.steps, strict=True) if steps == 0}
    assert start == (0.9, 0.3)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (dict(shrinkages_a=()), "candidates"),
        (dict(dims=()), "candidates"),
        (dict(shrinkages_b=(1.5,)), "shrinkage"),
    ],
)
def test_errors_name_the_argument(change, word):
    za, zb, own = pairs()
    grid = baselines.CcaGrid(shrinkages_a=(0.5,), shrinkages_b=(0.5,), powers=(1.0,), dims=(2,))
    folds = baselines.hold_out(90, 180, b_to_a=own, folds=2)
    with pytest.raises(ConfigError, match=word):
        baselines.cross_validate_cca(za, zb, dataclasses.replace(grid, **change), folds)


@pytest.mark.parametrize("folds", [1, 4])
def test_folds_are_at_most_the_different_items(folds):
    with pytest.raises(ConfigError, match="folds"):
        baselines.hold_out(6, 6, ids_a=np.arange(6) // 2, folds=folds)
