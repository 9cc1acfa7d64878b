"""Corruptions of captions, images and pairs: the right amount, deterministic, none at strength 0."""

import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.data import ArrayColumn, PairSplit, TextColumn

TEXTS = tuple(" ".join(f"w{10 * i + j}" for j in range(10)) for i in range(60))
IMAGE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", sorted(data.WORD_NOISES))
def test_captions(kind):
    column = TextColumn(TEXTS)

    def corrupt(strength, seed=0):
        return data.corrupt_captions(column, kind, strength, seed=seed, words=("x", "y")).texts

    assert corrupt(0.0) == TEXTS
    assert corrupt(0.5) == corrupt(0.5)
    assert corrupt(0.5) != corrupt(0.5, seed=1)

    def touched(strength):
        """Share of the words that are not where they were."""
        pairs = zip(TEXTS, corrupt(strength), strict=True)
        if kind == "caption_drop":
            return 1 - sum(len(new.split()) for _, new in pairs) / 600
        return sum(a != b for old, new in pairs for a, b in zip(old.split(), new.split(), strict=True)) / 600

    assert touched(0.2) == pytest.approx(0.2, abs=0.05)
    assert touched(0.6) == pytest.approx(0.6, abs=0.05)
    if kind == "caption_swap":
        assert [sorted(text.split()) for text in corrupt(0.7)] == [sorted(text.split()) for text in TEXTS]
    if kind == "caption_replace":
        assert set(" ".join(corrupt(1.0)).split()) == {"x", "y"}
    if kind == "caption_drop":
        assert all(len(text.split()) == 1 for text in corrupt(1.0))
        weak, strong = corrupt(0.2), corrupt(0.6)  # the stronger removes the same words
        assert all(set(new.split()) <= set(old.split()) for old, new in zip(weak, strong, strict=True))


def test_an_empty_caption_stays_empty():
    for kind in data.WORD_NOISES:
        assert data.corrupt_captions(TextColumn(("",)), kind, 1.0, seed=0, words=("x",)).texts == ("",)


@pytest.mark.parametrize("kind", sorted(data.IMAGE_NOISES))
def test_images(kind):
    def corrupt(strength, seed=0, index=0):
        return data.corrupt_image(IMAGE, kind, strength, seed=seed, index=index)

    np.testing.assert_array_equal(corrupt(0.0), IMAGE)
    for strength in (0.1, 0.5):
        found = corrupt(strength)
        assert found.dtype == np.uint8
        assert found.shape == IMAGE.shape
        np.testing.assert_array_equal(found, corrupt(strength))
    if kind in ("image_gaussian", "image_occlusion"):
        assert (corrupt(0.3) != corrupt(0.3, index=1)).any()

    def harm(strength):
        return float(np.mean((corrupt(strength).astype(float) - IMAGE) ** 2))

    assert harm(0.05) < harm(0.3) < harm(0.95 if kind == "image_jpeg" else 0.6)


def test_occlusion_hides_its_share():
    hidden = data.corrupt_image(np.zeros((40, 40, 3), np.uint8), "image_occlusion", 0.25, seed=1, index=5)
    assert (hidden == 128).mean() == 0.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.corrupt_captions(TextColumn(("a",)), "fog", 0.1, seed=0), "fog"),
        (lambda: data.corrupt_captions(TextColumn(("a",)), "caption_drop", 1.1, seed=0), "strength"),
        (lambda: data.corrupt_captions(TextColumn(("a",)), "caption_replace", 0.1, seed=0), "words"),
        (lambda: data.corrupt_captions(ArrayColumn(np.eye(2)), "caption_drop", 0.1, seed=0), "embedding"),
        (lambda: data.corrupt_image(IMAGE, "fog", 0.1, seed=0, index=0), "fog"),
        (lambda: data.corrupt_image(IMAGE, "image_blur", -0.1, seed=0, index=0), "strength"),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def split_of(n, captions=2):
    owner = np.repeat(np.arange(n), captions)
    return PairSplit(a=ArrayColumn(np.eye(n)), b=ArrayColumn(np.eye(n)[owner]), b_to_a=owner, ids=np.arange(n))


def test_mismatched_pairs_are_exchanged_nested_and_the_same_every_time():
    split = split_of(101)
    found = {share: data.mismatch(split, share, seed=0).b_to_a for share in (0.0, 0.1, 0.3, 0.5)}
    wrong = {share: set(np.flatnonzero(owner != split.b_to_a).tolist()) for share, owner in found.items()}
    assert [len(wrong[share]) // 2 for share in found] == [0, 10, 30, 50]
    assert wrong[0.1] < wrong[0.3] < wrong[0.5]
    for share in (0.1, 0.3):  # a wrong pair is wrong in the same way at every share
        np.testing.assert_array_equal(found[share][sorted(wrong[share])], found[0.5][sorted(wrong[share])])
    np.testing.assert_array_equal(np.bincount(found[0.5]), 2)
    np.testing.assert_array_equal(found[0.3], data.mismatch(split, 0.3, seed=0).b_to_a)
    assert (found[0.3] != data.mismatch(split, 0.3, seed=1).b_to_a).any()


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match="mismatched"):
        data.mismatch(split_of(4), share, seed=0)


def test_a_new_caption_takes_the_size_of_the_nearest_cluster():
    train = np.array([[1, 0.1], [1, -0.1], [1, 0], [0, 1.0]])
    clusters = data.cluster_sizes(train, clusters=2)
    assert data.assigned_sizes(np.array([[5, 1.0], [0.2, 3]]), train, clusters).tolist() == [3.0, 1.0]
