"""Rows of equal content are one item, in everything that is measured of a split."""

import numpy as np
import pytest

from alignment_jax import data, evals, report
from alignment_jax.compare.item_scores import item_scores, retrieval_items


def unit(z):
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def stored(copied):
    """12 images of 1 to 4 captions each, stored once or once a caption."""
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(12), rng.integers(1, 5, size=12))
    image = unit(rng.normal(size=(12, 6)))
    text = unit(image[owner] + 0.5 * rng.normal(size=(len(owner), 6)))
    if not copied:
        return evals.SplitEmbeddings(image, text, owner)
    return evals.SplitEmbeddings(image[owner], text, np.arange(len(owner)), ids_a=owner)


def shared(n=24, kinds=4):
    """Images of which every sixth has the same caption; the model is perfect."""
    kind = np.arange(n) % kinds
    rng = np.random.default_rng(0)
    text = np.eye(kinds, 8, dtype=np.float32)[kind]
    return evals.SplitEmbeddings(unit(text + 0.1 * rng.normal(size=(n, 8))), text, np.arange(n), ids_b=kind)


def measured(embedded):
    ids = {"ids_a": embedded.ids_a, "ids_b": embedded.ids_b}
    calibration = evals.calibration(embedded.a, embedded.b, embedded.b_to_a, temperature=0.1, **ids)
    sizes = np.arange(len(embedded.b))
    tail = evals.long_tail_recall(embedded, sizes, sizes)
    kept = retrieval_items(*embedded.ranks, embedded.owner)
    n_a = len(embedded.a)
    relevancy = (embedded.owner[None, :] == np.arange(n_a)[:, None]) + 0.25 * (np.arange(len(embedded.b)) % 2)
    if embedded.ids_a is not None:
        relevancy = relevancy[np.unique(embedded.ids_a, return_index=True)[1]][embedded.ids_a]
    return {
        "recall": evals.recall_metrics(embedded),
        "calibration": {k: v for k, v in calibration.items() if k != "bins"},
        "temperature": evals.fit_temperature(embedded.a, embedded.b, embedded.b_to_a, **ids),
        "chance": report.chance_recall(embedded.b_to_a, n_a=n_a, **ids),
        "items": {name: float(np.mean(item_scores(name, kept).count.sum())) for name in ("a2b_R@1", "b2a_R@5", "rsum")},
        "graded": evals.multi_instance_metrics(embedded, np.arange(len(embedded.b)), np.clip(relevancy, 0, 1)),
        "tail": {f"{bucket}/{k}": v for bucket in evals.BUCKETS for k, v in tail[bucket].items() if k != "rsum" and v},
    }


@pytest.mark.slow
def test_an_image_stored_once_a_caption_is_measured_as_if_stored_once():
    once, copied = measured(stored(False)), measured(stored(True))
    assert 0 < once["recall"]["b2a_R@1"] < 100
    for name, of_once in once.items():
        if isinstance(of_once, dict):
            assert copied[name] == pytest.approx(of_once, rel=1e-5), name
        else:
            assert copied[name] == of_once


@pytest.mark.slow
def test_a_caption_of_several_images_is_right_for_all_of_them():
    embedded = shared()
    found = measured(embedded)
    assert found["recall"]["rsum"] == 600.0
    # 4 captions, one right for an image; 24 images, six right for a caption.
    assert found["chance"]["a2b_R@1"] == found["chance"]["b2a_R@1"] == pytest.approx(25.0)
    calibration = found["calibration"]
    assert calibration["a2b_accuracy"] == calibration["b2a_accuracy"] == 1.0
    assert calibration["similarity_true"] > 0.9
    assert abs(calibration["similarity_wrong"]) < 0.2
    s = embedded.b[:4].astype(float) @ embedded.a.T.astype(float) / 0.1
    mass = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    right = (mass * (np.arange(24) % 4 == np.arange(4)[:, None])).sum(axis=1)
    assert calibration["b2a_nll"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert calibration["b2a_confidence"] == pytest.approx(right.mean(), rel=1e-5)
    sampled = evals.sample_retrievals(embedded, count=10, k=5)
    assert len(sampled.queries) == 4  # four texts, each asked once
    assert sampled.right.all()
    rows = np.asarray([*sampled.own, *sampled.top.ravel()])
    assert (rows % 4 == np.repeat([*sampled.queries % 4, *np.repeat(sampled.queries % 4, 5)], 1)).all()


def test_ties_between_different_items_still_count_against_the_query():
    constant = np.ones((24, 8), np.float32)
    collapsed = evals.SplitEmbeddings(constant, constant, np.arange(24), ids_b=np.arange(24) % 4)
    assert evals.recall_metrics(collapsed, ks=(1,))["rsum"] == 0.0


def test_the_limit_of_a_perfect_model_if_equal_rows_were_different():
    embedded = shared()
    split = data.PairSplit(
        a=data.ArrayColumn(embedded.a),
        b=data.TextColumn([f"kind {kind}" for kind in embedded.ids_b]),
        b_to_a=embedded.b_to_a,
        ids=np.arange(24).astype(str),
    )
    np.testing.assert_array_equal(split.content_ids_b, embedded.ids_b)
    assert split.duplicate_ids[0] is None
    found = data.count_duplicates(split)
    assert (found.a, found.b) == (0, 20)
    # Without identity by content: no caption is alone first, and of six equal questions one is answered.
    plain = evals.recall_metrics(evals.SplitEmbeddings(embedded.a, embedded.b, embedded.b_to_a), ks=(1,))
    assert plain["a2b_R@1"] == found.most_a2b == 0.0
    assert plain["b2a_R@1"] == pytest.approx(found.most_b2a) == pytest.approx(100 / 6)
    half = split.subset(np.arange(0, 24, 2))
    np.testing.assert_array_equal(
        half.replace(b=data.TextColumn(["cut"] * 12), original=half).content_ids_b, half.content_ids_b
    )


def test_content_is_read_once_however_often_a_split_is_changed(monkeypatch):
    read = []
    column = data.TextColumn(["a", "b", "a"])
    monkeypatch.setattr(type(column), "identity", lambda self, index, *, exact: read.append(index) or self.texts[index])
    split = data.PairSplit(data.ArrayColumn(np.eye(3)), column, np.arange(3), np.array(list("xyz")))
    assert split.content_ids_b.tolist() == [0, 1, 0]
    seen = len(read)
    assert split.replace(label=np.zeros(3)).content_ids_b.tolist() == [0, 1, 0]
    assert split.replace(b=data.TextColumn(["cut"] * 3), original=split).content_ids_b.tolist() == [0, 1, 0]
    assert len(read) == seen
    assert split.replace(b=data.TextColumn(["c", "c", "d"])).content_ids_b.tolist() == [0, 0, 1]
