"""Metrics against the numbers of the authors' evaluation code (retrieval_recall, ek100_mir, bss_train_eval)."""

import pathlib

import jax
import numpy as np
import pytest

from alignment_jax import metrics

pytestmark = pytest.mark.costly

DATA = pathlib.Path(__file__).parent / "data"


def load(name):
    with np.load(DATA / name, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def recall():
    return load("retrieval_recall.npz")


@pytest.fixture(scope="module")
def mir():
    return load("ek100_mir.npz")


@pytest.fixture(scope="module")
def classification():
    return load("bss_train_eval.npz")


def as_embeddings(s):
    """Embeddings whose similarities are exactly the given matrix."""
    return s, np.eye(s.shape[1], dtype=s.dtype)


@pytest.mark.parametrize("case", range(5))
def test_recall_without_ties(recall, case):
    s, owner = recall[f"c{case}_sim"], recall[f"c{case}_txt2img"]
    assert not recall[f"c{case}_has_ties"]
    rank_ab, rank_ba = metrics.retrieval_ranks(*as_embeddings(s), owner)
    np.testing.assert_array_equal(rank_ab, recall[f"c{case}_rank_i2t"])
    np.testing.assert_array_equal(rank_ba, recall[f"c{case}_rank_t2i"])
    ours = metrics.retrieval_recall(*as_embeddings(s), owner)
    for k in (1, 5, 10):
        assert ours[f"a2b_R@{k}"] == pytest.approx(float(recall[f"c{case}_txt_r{k}"]), abs=1e-12)
        assert ours[f"b2a_R@{k}"] == pytest.approx(float(recall[f"c{case}_img_r{k}"]), abs=1e-12)
    assert ours["rsum"] == pytest.approx(6 * float(recall[f"c{case}_r_mean"]), abs=1e-10)


@pytest.mark.parametrize("case", [5, 6])
def test_ties_rank_pessimistically(recall, case):
    s, owner = recall[f"c{case}_sim"], recall[f"c{case}_txt2img"]
    assert recall[f"c{case}_has_ties"]
    rank_ab, rank_ba = metrics.retrieval_ranks(*as_embeddings(s), owner)
    np.testing.assert_array_equal(rank_ab, recall[f"c{case}_worst_rank_i2t"])
    np.testing.assert_array_equal(rank_ba, recall[f"c{case}_worst_rank_t2i"])
    assert np.any(recall[f"c{case}_rank_t2i"] < np.asarray(rank_ba))  # the peer's sort was kinder somewhere


@pytest.mark.parametrize("case", range(5))
def test_multi_instance(mir, case):
    s, r = mir[f"c{case}_sim"], mir[f"c{case}_relevancy"]
    ours = metrics.multi_instance(s, r)
    jitted = jax.jit(metrics.multi_instance)(s, r)
    # Per-query numbers of the authors; their NaN queries (none relevant) are the ones that we leave out.
    for name, key in (("ap", "mAP"), ("ndcg_per", "nDCG")):
        rows, columns = (np.nanmean(mir[f"c{case}_{name}_{side}"]) for side in "vt")
        for suffix, want in (("_a2b", rows), ("_b2a", columns), ("", (rows + columns) / 2)):
            assert ours[key + suffix] == pytest.approx(want, abs=1e-12)
            assert float(jitted[key + suffix]) == pytest.approx(want, abs=1e-6)
    for name, key in (("map", "mAP"), ("ndcg", "nDCG")):
        for suffix, want in zip(("_a2b", "_b2a", ""), mir[f"c{case}_{name}"], strict=True):
            if np.isfinite(want):
                assert ours[key + suffix] == pytest.approx(want, abs=1e-12)
    assert np.isfinite(list(ours.values())).all()


def test_multi_instance_has_golden_cases_with_and_without_nan(mir):
    has_nan = [bool(np.isnan(mir[f"c{i}_map"]).any() or np.isnan(mir[f"c{i}_ndcg"]).any()) for i in range(5)]
    assert has_nan == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("data_set", "second"),
    [
        ("cremad", "mAP"),
        ("ks", "mAP"),
        ("vggsound", "mAP"),
        ("nvgesture", "macro_f1"),
        ("sarcasm", "macro_f1"),
        ("twitter", "macro_f1"),
    ],
)
def test_classification(classification, data_set, second):
    golden = {key.removeprefix(f"{data_set}_"): x for key, x in classification.items() if key.startswith(data_set)}
    heads = ["m1", "m2"] if data_set == "cremad" else ["m1", "m2", "m3", "mm"]
    logits = sum(golden[f"logits_{head}"] for head in heads if f"logits_{head}" in golden)
    labels = golden["labels"]
    np.testing.assert_array_equal(logits.argmax(axis=1), golden["eval_pred"])
    assert metrics.accuracy(logits, labels) == pytest.approx(100 * float(golden["eval_acc"]), abs=1e-10)
    if second == "mAP":
        probabilities = np.asarray(jax.nn.softmax(logits, axis=1))
        ours = metrics.mean_average_precision(probabilities, labels)
    else:
        ours = metrics.macro_f1(logits, labels)
    assert ours == pytest.approx(100 * float(golden["eval_metric2"]), abs=1e-10)
