"""Cluster sizes: counts, determinism, independence of the order, errors that name the row."""

import numpy as np
import pytest

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data import clusters

CENTERS = np.eye(3, 16) * 5
MEMBERS = (60, 25, 5)


def long_tail(seed=0):
    """Three well separated groups of 60, 25 and 5 items, in random order and at random lengths."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(3), MEMBERS))
    x = CENTERS[truth] + 0.3 * rng.normal(size=(90, 16))
    return x * rng.uniform(0.5, 20.0, size=(90, 1)), truth


def test_a_long_tail_is_found_for_vectors_of_any_length():
    x, truth = long_tail()
    found = clusters.cluster_sizes(x, clusters=3, seed=1)
    np.testing.assert_array_equal(found.size, np.array(MEMBERS)[truth])
    np.testing.assert_array_equal(found.label, truth)  # numbered by descending size
    assert (found.min_size, found.max_size) == (5.0, 60.0)
    assert found.counts.tolist() == list(MEMBERS)
    assert found.size.dtype == np.float32
    assert found.label.dtype == np.int32


def test_the_same_seed_gives_the_same_clusters():
    x = np.random.default_rng(0).normal(size=(400, 8))
    first = clusters.cluster_sizes(x, seed=3)
    np.testing.assert_array_equal(first.label, clusters.cluster_sizes(x, seed=3).label)
    assert len(first.counts) == 14  # round(sqrt(400 / 2))
    assert first.counts.sum() == 400
    np.testing.assert_array_equal(first.size, first.counts[first.label])


def test_equal_items_are_one_cluster_and_have_one_size():
    found = clusters.cluster_sizes(np.ones((50, 4)))
    assert found.min_size == found.max_size == 50.0
    assert clusters.cluster_sizes(np.ones((1, 4))).size.tolist() == [1.0]


def test_zero_vectors_are_items_too():
    x = np.concatenate([np.zeros((4, 3)), np.ones((6, 3))])
    assert clusters.cluster_sizes(x, clusters=2).size.tolist() == [4.0] * 4 + [6.0] * 6


def test_many_items_go_through_mini_batches(monkeypatch):
    monkeypatch.setattr(clusters, "_MINI_BATCH_ABOVE", 50)
    x, truth = long_tail()
    np.testing.assert_array_equal(clusters.cluster_sizes(x, clusters=3, seed=0).size, np.array(MEMBERS)[truth])


def test_class_counts():
    found = clusters.class_counts(np.array([4, -1, 4, 4, 9, 9]))
    assert found.size.tolist() == [3, 1, 3, 3, 2, 2]
    assert found.label.tolist() == [0, 2, 0, 0, 1, 1]
    assert (found.min_size, found.max_size) == (1.0, 3.0)


def test_an_item_is_the_mean_of_its_captions_directions():
    x = np.array([[10.0, 0.0], [0.0, 0.1], [0.0, 5.0], [0.0, 0.0]])
    np.testing.assert_allclose(clusters.mean_by_item(x, [1, 1, 0, 0], 2), [[0.0, 0.5], [0.5, 0.5]], atol=1e-7)


def test_captions_without_latents_are_grouped_by_their_words():
    dogs = [f"a brown dog number {i} runs over the grass" for i in range(30)]
    water = [f"two people {i} swim in blue water" for i in range(10)]
    z = clusters.caption_features([*dogs, *water], dim=8, seed=0)
    assert z.shape == (40, 8)
    assert z.dtype == np.float32
    assert clusters.cluster_sizes(z, clusters=2).size.tolist() == [30.0] * 30 + [10.0] * 10
    np.testing.assert_array_equal(z, clusters.caption_features([*dogs, *water], dim=8, seed=0))


def test_words_of_other_scripts_and_single_letters_are_words():
    z = clusters.caption_features(["собака бежит", "собака бежит", "x"])
    assert np.array_equal(z[0], z[1])
    assert z[2].any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: clusters.cluster_sizes(np.ones(3)), DataError, r"shape \[n, d\]"),
        (lambda: clusters.cluster_sizes([[1.0, 2.0], [np.nan, 0.0]]), DataError, "row 1"),
        (lambda: clusters.cluster_sizes(np.eye(3), clusters=4), ConfigError, "3 distinct items"),
        (lambda: clusters.cluster_sizes(np.eye(3), clusters=0), ConfigError, "between 1 and"),
        (lambda: clusters.class_counts([0.5, 1.0]), DataError, "vector of integers"),
        (lambda: clusters.class_counts([]), DataError, "vector of integers"),
        (lambda: clusters.mean_by_item(np.eye(2), [0, 0], 2), DataError, "item 1 "),
        (lambda: clusters.mean_by_item(np.eye(2), [0, 5], 2), DataError, r"owner .*\[0, 2\)"),
        (lambda: clusters.mean_by_item(np.eye(2), [0], 2), DataError, "owner"),
        (lambda: clusters.caption_features(["", "the of"]), DataError, "2 captions"),
        (lambda: clusters.caption_features(["a dog"], dim=0), ConfigError, "dim "),
    ],
)
def test_errors_name_the_value_and_the_row(call, error, message):
    with pytest.raises(error, match=message):
        call()
