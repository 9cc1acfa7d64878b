"""The gallery marks hits and misses by more than colour, and survives a trip to disk."""

import io
import re

import numpy as np
import pytest

from alignment_jax.core.errors import RunError
from alignment_jax.report import Gallery, data_url, encode_picture, gallery_html, load_gallery, save_gallery

PIL = pytest.importorskip("PIL.Image", reason="needs the extra 'train'")


def _gallery(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "captions": ["a dog runs", "a <b>cat</b>"],
        "ids": [f"{item}.jpg" for item in range(10)],
        "top": np.array([[3, 1, 2, 4, 5], [0, 1, 2, 3, 4]]),
        "own": np.array([1, 9]),
        "images": {item: rng.integers(0, 255, (150, 200, 3), dtype=np.uint8) for item in range(10)},
        "ranks": np.array([2, 7]),
        "how": "Drawn with seed 0.",
    }
    return Gallery(**{**fields, **changes})


def test_hits_and_misses_are_marked_in_words_and_signs():
    html = gallery_html(_gallery(), names=("image", "text"))
    summary = html.split("<article")[0]
    assert all(word in summary for word in ("1 of 2", "image", "5", "Drawn with seed 0."))
    first, second = html.split("<article")[1:]
    assert "at rank 2" in first
    assert first.count("item hit") == 1
    assert first.count("item miss") == 4
    assert "<b>2. ✓ hit</b>" in first
    assert "wanted" not in first
    assert "at rank 7" in second
    assert second.count("item miss") == 5
    assert second.count("item wanted") == 1
    assert second.count("<img") == 6


def test_everything_from_data_is_escaped():
    gallery = _gallery(
        captions=['<script>alert("c")</script>', "x"],
        ids=["<script>alert('i')</script>", '" onerror="alert(1)', *"abcdefgh"],
        images=None,
        item_captions={0: "<script>alert('t')</script>"},
        how="<script>",
    )
    html = gallery_html(gallery)
    assert "<script" not in html
    assert '" onerror' not in html
    assert html.count("&lt;script&gt;") >= 4


def test_without_pixels_it_shows_captions_and_ids():
    html = gallery_html(_gallery(images=None, item_captions={3: "a red ball"}))
    assert "<img" not in html
    assert "a red ball" in html
    assert "3.jpg" in html


def test_pictures_are_small_and_shaped_as_before():
    big = encode_picture(np.zeros((600, 1200, 3), np.uint8))
    assert PIL.open(io.BytesIO(big)).size == (240, 120)
    assert data_url(big).startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (28, 28, 3)])
def test_tiny_pictures_keep_every_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    stored = np.asarray(PIL.open(io.BytesIO(encode_picture(pixels))))
    np.testing.assert_array_equal(stored, pixels.reshape(stored.shape))


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), b"GIF89a"]
)
def test_arrays_that_are_no_picture_are_refused(pixels):
    with pytest.raises(ValueError, match=r"uint8|not a PNG"):
        encode_picture(pixels)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"top": np.zeros((3, 5), int)}, "top"),
        ({"top": np.zeros((2, 5))}, "top"),
        ({"top": np.full((2, 5), 10)}, "top"),
        ({"top": np.full((2, 5), -1)}, "top"),
        ({"own": np.zeros((2, 1), int)}, "own"),
        ({"own": np.array([0, 10])}, "own"),
        ({"ranks": np.zeros(3, int)}, "ranks"),
    ],
)
def test_fields_that_do_not_fit_are_named(changes, field):
    with pytest.raises(ValueError, match=f"gallery: {field}"):
        _gallery(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images": None, "item_captions": {3: "a red ball", 9: ""}},
        {"ranks": None, "how": ""},
        {"captions": ["", "two\nlines, ünïcödé and a unit\u00a0sign"]},
    ],
)
def test_the_page_is_the_same_from_disk(tmp_path, changes):
    gallery = _gallery(**changes)
    save_gallery(tmp_path / "gallery.npz", gallery)
    assert gallery_html(load_gallery(tmp_path / "gallery.npz")) == gallery_html(gallery)


def test_a_damaged_file_is_one_clear_error(tmp_path):
    path = tmp_path / "gallery.npz"
    save_gallery(path, _gallery())
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"not a zip file"):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"gallery\.npz"):
            load_gallery(path)
    with pytest.raises(RunError, match=r"none\.npz"):
        load_gallery(tmp_path / "none.npz")


def test_only_items_that_are_shown_are_encoded(tmp_path):
    many = _gallery()
    assert sorted(many.with_pictures_encoded().images) == [0, 1, 2, 3, 4, 5, 9]
    assert len(re.findall("data:image", gallery_html(many))) == 11
