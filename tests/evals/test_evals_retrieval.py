import numpy as np
import pytest

from alignment_jax.evals import SplitEmbeddings, embed_items, recall_metrics, sample_retrievals


def embedded(n=20, captions=3, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, 8)).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    owner = np.repeat(np.arange(n), captions)
    return SplitEmbeddings(a=a, b=a[owner] + 0.05 * rng.normal(size=(n * captions, 8)).astype(np.float32), b_to_a=owner)


def test_padding_is_dropped_in_order():
    items = np.arange(7, dtype=np.float32)[:, None]
    batches = [(np.pad(items[i : i + 3], [(0, 3 - len(items[i : i + 3])), (0, 0)]), np.arange(3) < len(items) - i)
               for i in (0, 3, 6)]  # fmt: skip
    np.testing.assert_array_equal(embed_items(lambda x: 2 * x, batches), 2 * items)


def test_short_texts_are_embedded_in_short_batches_and_come_back_in_order():
    rng, padding, shapes = np.random.default_rng(0), 9, []
    lengths = np.array([3, 20, 32, 1, 9, 2, 15, 31, 4, 7, 8])
    rows = np.where(np.arange(32) < lengths[:, None], rng.integers(1, 9, (11, 32)), padding)
    padded = np.concatenate([rows, np.zeros((1, 32), int)]).reshape(4, 3, 32)
    batches = list(zip(padded, (np.arange(12) < 11).reshape(4, 3), strict=True))

    def encode(ids):
        shapes.append(ids.shape)
        return np.where(ids == padding, 0, ids * 2.0 ** -np.arange(ids.shape[1])).sum(axis=1, keepdims=True)

    expected = embed_items(encode, batches)
    shapes.clear()
    np.testing.assert_array_equal(embed_items(encode, batches, padding=padding), expected)
    assert shapes == [(3, 8), (3, 16), (3, 24), (3, 32)]


def test_recall_gives_plain_floats_in_percent():
    found = recall_metrics(embedded())
    assert all(type(value) is float for value in found.values())
    assert found["b2a_R@1"] > 90


def test_samples_are_of_different_items_and_carry_the_right_answer():
    split = embedded()
    sampled = sample_retrievals(split, count=15, k=5, seed=1)
    assert len(set(sampled.own.tolist())) == 15
    assert sampled.top.shape == (15, 5)
    np.testing.assert_array_equal(sampled.own, split.b_to_a[sampled.queries])
    expected = np.argsort(-(split.b[sampled.queries] @ split.a.T), axis=1)[:, :5]
    np.testing.assert_array_equal(sampled.top, expected)


@pytest.mark.parametrize(("count", "expected"), [(25, 25), (1000, 60)])
def test_more_samples_than_items_take_further_captions(count, expected):
    sampled = sample_retrievals(embedded(), count=count, k=50)
    assert len(sampled.queries) == len(set(sampled.queries.tolist())) == expected
    assert sampled.top.shape[1] == 20
