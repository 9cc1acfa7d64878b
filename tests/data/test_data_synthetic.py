"""The synthetic data set: reproducible, long-tailed, no scene twice, labelled corruptions."""

import re
import time

import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.data.sources import synthetic_captions as words
from alignment_jax.data.sources.synthetic import KEPT, PARTIAL, WRONG, scene_signatures
from alignment_jax.data.sources.synthetic_scenes import (
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    draw_scenes,
    number_of_scenes,
    render,
)

SMALL = "synthetic:train=120,val=20,test=30,size=16,captions=3"


def content(split):
    return np.stack(split.a.read(np.arange(len(split)))), split.b.read(np.arange(len(split.b)))


def test_the_seed_decides_everything():
    first, again, other = (data.load(SMALL + f",seed={seed}") for seed in (1, 1, 2))
    for name in ("train", "val", "test"):
        one, two, three = (content(source.splits[name]) for source in (first, again, other))
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1] == two[1]
        assert one[1] != three[1]
    from_argument = data.load(SMALL, seed=1)
    assert content(from_argument.splits["val"])[1] == content(first.splits["val"])[1]


def test_more_training_data_leaves_the_rest_as_it_was():
    few, many = data.load(SMALL), data.load(SMALL.replace("train=120", "train=200"))
    for name in ("val", "test"):
        np.testing.assert_array_equal(content(few.splits[name])[0], content(many.splits[name])[0])
        assert content(few.splits[name])[1] == content(many.splits[name])[1]
    np.testing.assert_array_equal(content(few.splits["train"])[0], content(many.splits["train"])[0][:120])


@pytest.mark.slow
def test_no_scene_image_or_pair_occurs_twice():
    signatures = scene_signatures()
    everything = [scene for scenes in signatures.values() for scene in scenes]
    assert len(everything) == len(set(everything)) == 2400
    source = data.load("synthetic:partial=0.3,wrong=0.3,noise_in=all")
    assert data.describe(source)["duplicates"]["a"] == 0
    (groups,) = data.content_groups(source.splits["train"].a)
    assert len(set(groups.tolist())) == 2000


@pytest.mark.slow
def test_concepts_are_long_tailed():
    source = data.load("synthetic:size=8")
    train = source.splits["train"]
    count = np.bincount(train.label, minlength=64)
    expected = np.arange(1, 65) ** -1.1
    expected *= 2000 / expected.sum()
    assert (abs(count - expected) < 5 * np.sqrt(expected) + 1).all()
    np.testing.assert_array_equal(train.cluster_size, count[train.label])
    assert (source.splits["test"].cluster_size >= 1).all()
    flat = np.bincount(data.load("synthetic:zipf=0,size=8").splits["train"].label, minlength=64)
    assert flat.max() < 3 * flat.min()


def test_labels_match_the_captions():
    source = data.load(SMALL)
    for split in source.splits.values():
        for a, label in enumerate(split.label):
            color, shape = source.label_names[label].split()
            for text in split.b.read(split.b_of_a(a)):
                assert any(word in text for word in words._COLOR_WORDS[color])
                assert any(word in text for word in words._SHAPE_WORDS[shape])


def test_captions_of_a_scene_differ():
    split = data.load("synthetic:train=50,val=1,test=1,size=8,captions=12").splits["train"]
    for a in range(50):
        assert len(set(split.b.read(split.b_of_a(a)))) == 12


def test_every_attribute_is_worded_without_ambiguity():
    """A word of one attribute is never a word of another, so that each caption describes one scene only."""
    for table in (words._COLOR_WORDS, words._SHAPE_WORDS, words._SIZE_WORDS, words._TEXTURE_BEFORE):
        every = [word for synonyms in table.values() for word in synonyms]
        assert len(every) == len(set(every))
    assert set(words._COLOR_WORDS) == set(COLORS)
    assert set(words._SHAPE_WORDS) == set(SHAPES)
    assert set(words._SIZE_WORDS) == set(SIZES)
    assert set(words._TEXTURE_BEFORE) == set(words._TEXTURE_AFTER) == set(TEXTURES)
    rng = np.random.default_rng(0)
    spoken = [frozenset(words._place(place, rng) for _ in range(60)) for place in PLACES]
    assert sum(map(len, spoken)) == len(frozenset().union(*spoken)) == 18


@pytest.mark.parametrize(("partial", "wrong"), [(0.25, 0.0), (0.0, 0.4), (0.3, 0.2), (0.0, 1.0)])
def test_shares_of_partial_and_wrong_captions(partial, wrong):
    clean = data.load(SMALL)
    noisy = data.load(f"{SMALL},partial={partial},wrong={wrong}")
    for name in ("train", "val", "test"):
        before, after = clean.splits[name], noisy.splits[name]
        np.testing.assert_array_equal(content(before)[0], content(after)[0])
        corruption, scene = after.extra_b["corruption"], after.extra_b["scene"]
        m = len(after.b)
        shares = (partial, wrong) if name == "train" else (0.0, 0.0)
        assert (corruption == PARTIAL).sum() == round(shares[0] * m)
        assert (corruption == WRONG).sum() == round(shares[1] * m)
        np.testing.assert_array_equal(scene == after.b_to_a, corruption != WRONG)
        for row in range(m):
            text, original = after.b.texts[row], before.b.texts[row]
            if corruption[row] == KEPT:
                assert text == original
            elif corruption[row] == WRONG:
                assert text in before.b.read(before.b_of_a(scene[row]))
            else:
                assert text not in before.b.read(before.b_of_a(after.b_to_a[row]))


def test_noise_everywhere_on_request():
    source = data.load(SMALL + ",wrong=0.5,noise_in=all")
    assert [(split.extra_b["corruption"] == WRONG).mean() for split in source.splits.values()] == [0.5, 0.5, 0.5]


def test_partial_captions_are_half_true():
    scene = Scene(0, (Thing("red", "star", "plain", "large", (0, 0)), Thing("blue", "ring", "", "small", (2, 2))))
    rng = np.random.default_rng(0)
    short = wrong = 0
    for _ in range(200):
        text = words.partial_caption(scene, rng=rng)
        if len(text.split()) < 8:
            short += 1
            assert re.search("red|crimson|star|blue|azure|ring|hoop", text)
        else:
            wrong += 1
            true = [
                bool(re.search(pattern, text))
                for pattern in (
                    "(red|crimson)",
                    "star",
                    "(plain|solid)",
                    "(top left|upper left)",
                    "(blue|azure)",
                    "(ring|hoop)",
                    "(bottom right|lower right)",
                )
            ]
            assert sum(true) >= 6
    assert 60 < short < 140
    assert short + wrong == 200


def test_number_of_scenes_is_right():
    few = number_of_scenes(2, 1)
    assert few == 2 * 4 * 9 * 3
    assert len(set(draw_scenes(few, seed=0, concepts=2, zipf=0, objects=1))) == few
    assert number_of_scenes(2, 2) == few + 2 * 4 * 9 * 2 * 1 * 8
    assert len(draw_scenes(number_of_scenes(1, 2), seed=0, concepts=1, zipf=0, objects=2)) == 108


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [16, 48])
def test_things_are_where_and_what_they_should_be(shape, size):
    for color, place in (("red", (0, 2)), ("blue", (2, 1))):
        scenes = [Scene(0, (Thing(color, shape, "plain", "large", place),))] * 12
        images = render(scenes, first=0, size=size, seed=0).astype(float)
        strong = {"red": 0, "blue": 2}[color]
        excess = np.clip(images[..., strong] - images[..., 2 - strong] - 60, 0, None)
        weight = excess.sum((1, 2))
        assert (weight > 0).all()
        y = (excess.sum(2) * np.arange(size)).sum(1) / weight / size
        x = (excess.sum(1) * np.arange(size)).sum(1) / weight / size
        assert ((y * 3).astype(int) == place[0]).all()
        assert ((x * 3).astype(int) == place[1]).all()


def test_textures_and_sizes_look_different():
    def mean_image(texture, size):
        return render([Scene(0, (Thing("red", "square", texture, size, (1, 1)),))] * 30, first=0, size=32, seed=0)

    looks = [mean_image(texture, "large")[:, 10:22, 10:22, 1].astype(float).std((1, 2)).mean() for texture in TEXTURES]
    assert looks[0] * 3 < min(looks[1:])
    red = [
        (mean_image("plain", size)[..., 0].astype(int) - mean_image("plain", size)[..., 1] > 100).sum()
        for size in SIZES
    ]
    assert red[0] < 0.7 * red[1] < 0.7 * 0.7 * red[2]


def test_mirrored_images_are_advised_against():
    assert data.load(SMALL).hints["flip"] is False


@pytest.mark.slow
def test_it_is_quick():
    start = time.process_time()
    data.load("synthetic:size=48")
    assert time.process_time() - start < 6  # about 1.5 s on one slow core
