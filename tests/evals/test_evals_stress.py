"""Noise curves, buckets of cluster sizes and maps on cases with known answers."""

import numpy as np
import pytest

from alignment_jax import evals
from alignment_jax.evals import Noise, SplitEmbeddings


def identity(n=6):
    eye = np.eye(n, dtype=np.float32)
    return SplitEmbeddings(eye, eye, np.arange(n))


def test_rows_of_a_stress_test_and_retained_shares():
    eye = np.eye(6, dtype=np.float32)

    def broken(strength, seed):
        return np.where(np.arange(6)[:, None] < 6 * strength, np.roll(eye, 1, axis=1), eye)

    rows = evals.stress_test(
        identity(), [Noise("turn", "a", (0.5, 1.0), broken)], measure=lambda e: evals.recall_metrics(e, ks=(1,))
    )
    values = [row["metrics"]["b2a_R@1"] for row in rows]
    assert values[0] == 100.0
    assert values[-1] == 0.0
    assert 0 < values[1] < 100
    share = evals.retained_share(rows, metric="b2a_R@1")["turn, a"]
    assert share == pytest.approx((0.5 * (100 + values[1]) * 0.5 + 0.5 * values[1] * 0.5) / 100)


def test_repeats_average_over_seeds():
    seen = []

    def embed(strength, seed):
        seen.append(seed)
        return np.eye(6, dtype=np.float32) * (1 if seed % 2 else -1)

    rows = evals.stress_test(identity(), [Noise("sign", "b", (1.0,), embed)], seed=10, repeats=2)
    assert seen == [10, 11]
    upright, upside_down = (
        evals.recall_metrics(identity()),
        evals.recall_metrics(SplitEmbeddings(np.eye(6), -np.eye(6), np.arange(6))),
    )
    assert rows[1]["metrics"]["rsum"] == pytest.approx(0.5 * (upright["rsum"] + upside_down["rsum"]))


def test_a_metric_of_zero_has_no_retained_share():
    rows = [
        {"kind": "clean", "side": "", "strength": 0.0, "metrics": {"rsum": 0.0}},
        {"kind": "blur", "side": "a", "strength": 1.0, "metrics": {"rsum": 0.0}},
    ]
    assert np.isnan(evals.retained_share(rows)["blur, a"])


def test_latent_noise_has_the_size_that_was_asked_for():
    noise = evals.latent_noise(np.zeros((200, 50)), 0.5, 3, scale=4.0)
    assert noise.std() == pytest.approx(2.0, rel=0.02)
    np.testing.assert_array_equal(noise, evals.latent_noise(np.zeros((200, 50)), 0.5, 3, scale=4.0))


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([1] * 3 + [2] * 3 + [3] * 3, {1: 2, 2: 1, 3: 0}),
        ([5] * 9, {5: 1}),  # one size: there is no long tail
        ([1, 9, 9, 9], {1: 2, 9: 0}),  # two sizes: no middle
        ([1, 2, 3, 100, 100, 100, 100, 100, 100], {1: 2, 2: 2, 3: 1, 100: 0}),
    ],
)
def test_buckets_follow_the_sizes(train, expected):
    bucket, _ = evals.size_buckets(np.array(list(expected)), np.array(train))
    assert dict(zip(expected, bucket.tolist(), strict=True)) == expected


@pytest.mark.slow
def test_long_tail_recalls_are_those_of_the_queries_in_each_bucket():
    rng = np.random.default_rng(0)
    za, zb = rng.standard_normal((9, 4)).astype(np.float32), rng.standard_normal((18, 4)).astype(np.float32)
    owner = np.repeat(np.arange(9), 2)
    sizes = np.repeat([1, 1, 1, 4, 4, 4, 9, 9, 9], 2)
    found = evals.long_tail_recall(SplitEmbeddings(za, zb, owner), sizes, sizes, ks=(1, 5))
    s = za @ zb.T
    first = s[:, 12:].argmax(axis=0)  # the captions of the last three items: the head
    assert found["head"]["b2a_R@1"] == pytest.approx(100 * (first == owner[12:]).mean())
    assert [found[name]["queries_b2a"] for name in evals.BUCKETS] == [6, 6, 6]
    assert [found[name]["queries_a2b"] for name in evals.BUCKETS] == [3, 3, 3]
    whole = evals.recall_metrics(SplitEmbeddings(za, zb, owner), ks=(1, 5))
    mean = sum(found[name]["rsum"] for name in evals.BUCKETS) / 3
    assert mean == pytest.approx(whole["rsum"])


def test_an_empty_bucket_is_none_and_not_zero():
    found = evals.long_tail_recall(identity(3), [1, 1, 1], [1, 5, 9], ks=(1,))
    assert found["head"]["rsum"] is None
    assert found["gap"] is None
    assert found["tail"]["rsum"] == 200.0


@pytest.mark.slow
def test_maps_keep_neighbours_together_and_repeat():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3) * 10, 10, axis=0)
    za, zb = groups + 0.1 * rng.standard_normal((30, 3)), groups + 0.1 * rng.standard_normal((30, 3))
    a, b = evals.embedding_map(za, zb, perplexity=5)
    np.testing.assert_array_equal(a, evals.embedding_map(za, zb, perplexity=5)[0])
    centers = np.stack([np.concatenate([a, b])[np.tile(np.repeat(np.arange(3), 10), 2) == k].mean(0) for k in range(3)])
    nearest = np.linalg.norm(b[:, None] - centers[None], axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest, np.repeat(np.arange(3), 10))
    with pytest.raises(ValueError, match="perplexity"):
        evals.embedding_map(za, zb, perplexity=60)


def test_balance_of_three_modalities():
    found = evals.balance({"accuracy": 70.0, "accuracy_a": 60.0, "accuracy_b": 40.0, "accuracy_c": 50.0, "mAP": 1.0})
    assert found["gap"] == 20.0
    assert found["gain"] == 10.0
    assert "mAP" not in found
