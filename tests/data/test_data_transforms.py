"""Decoding and augmentation: pure functions of an image and a generator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data import eval_image, train_image
from alignment_jax.data.transforms import center_crop, decode_image, random_flip, random_resized_crop, shrink


def gradient(height, width):
    """Channel 0 grows to the right, channel 1 downwards."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()
    image[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return image


@settings(max_examples=60)
@given(height=st.integers(1, 70), width=st.integers(1, 70), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_every_size_of_image_works(height, width, size, seed):
    image = gradient(height, width)
    for transform in (train_image(size, scale=(0.05, 1.0)), eval_image(size)):
        out = transform(image, np.random.default_rng(seed))
        assert out.shape == (size, size, 3)
        assert out.dtype == np.uint8
    again = train_image(size, scale=(0.05, 1.0))(image, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, train_image(size, scale=(0.05, 1.0))(image, np.random.default_rng(seed)))


def test_the_image_itself_is_not_changed():
    image = gradient(30, 40)
    before = image.copy()
    train_image(16)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(image, before)


def test_center_crop_is_the_centre():
    out = center_crop(gradient(40, 80), size=40).astype(float)
    assert abs(out[:, :, 0].mean() - 127.5) < 1
    assert abs(out[20, 0, 0] - 255 * 20 / 79) < 2  # the left quarter is cut away
    assert abs(out[0, 20, 1]) < 2  # nothing is cut above


def test_crops_cover_the_stated_share_of_the_area():
    image = gradient(100, 100)
    spans = []
    for seed in range(200):
        out = random_resized_crop(image, np.random.default_rng(seed), size=50, scale=(0.25, 0.5)).astype(float)
        # The edge pixels lie half a pixel inside the crop.
        spans.append(
            np.prod([(out[25, -1, 0] - out[25, 0, 0]) / 255, (out[-1, 25, 1] - out[0, 25, 1]) / 255]) / 0.98**2
        )
    assert 0.23 < min(spans) < 0.28
    assert 0.46 < max(spans) < 0.52


def test_flip_is_fair_and_exact():
    image = gradient(4, 6)
    flipped = [random_flip(image, np.random.default_rng(seed)) for seed in range(400)]
    mirrored = sum(bool((out == image[:, ::-1]).all()) for out in flipped)
    assert abs(mirrored - 200) < 5 * 10
    assert all((out == image).all() or (out == image[:, ::-1]).all() for out in flipped)
    keep = train_image(6, scale=(1.0, 1.0), flip=False)
    assert keep(gradient(6, 6), np.random.default_rng(1))[0, -1, 0] == 255


def test_shrink_only_reduces():
    assert shrink(gradient(30, 60), 40).shape == (30, 60, 3)
    assert shrink(gradient(30, 61), 10).shape == (10, 20, 3)
    assert shrink(gradient(500, 2), 1).shape == (250, 1, 3)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("L", 100),
        ("RGB", 100),
        ("RGBA", 255 - 78),
        ("LA", 255 - 78),
        ("I;16", 100),
        ("1", 255),
        ("P", 100),
        ("CMYK", 155),
    ],
)
def test_modes_become_rgb(mode, expected, tmp_path):
    values = {
        "L": np.full((5, 7), 100, np.uint8),
        "RGB": np.full((5, 7, 3), 100, np.uint8),
        "RGBA": np.full((5, 7, 4), (100, 100, 100, 128), np.uint8),
        "LA": np.full((5, 7, 2), (100, 128), np.uint8),
        "I;16": np.full((5, 7), 100 * 256, np.uint16),
    }
    if mode in values:
        image = Image.fromarray(values[mode])
    elif mode == "CMYK":
        image = Image.new("CMYK", (7, 5), (100, 100, 100, 0))
    else:
        image = Image.fromarray(np.full((5, 7), 100 if mode == "P" else 255, np.uint8)).convert(mode)
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
    image.save(path)
    out = decode_image(path)
    assert out.shape == (5, 7, 3)
    np.testing.assert_allclose(out.astype(int), expected, atol=1)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.fromarray(gradient(16, 32)).save(tmp_path / "x.jpg", exif=exif)
    assert decode_image(tmp_path / "x.jpg").shape == (32, 16, 3)


def test_reduced_decoding_is_close_to_full_decoding(tmp_path):
    smooth = gradient(400, 640)
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95)
    reduced = decode_image(tmp_path / "x.jpg", shorter_side=40)
    assert reduced.shape == (40, 64, 3)
    full = shrink(decode_image(tmp_path / "x.jpg"), 40)
    assert np.abs(reduced.astype(int) - full).max() <= 3


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(9)]
)
def test_files_that_are_no_image_are_named(content, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=r"somewhere: ") as error:
        decode_image(tmp_path / "x.png", where="somewhere")
    assert "\n" not in str(error.value)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(gradient(40, 40)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="40 x 40"):
        decode_image(tmp_path / "x.png")


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 1.1), (0.9, 0.5)])
def test_wrong_settings(scale):
    with pytest.raises(ConfigError, match="scale must be"):
        train_image(8, scale=scale)
    with pytest.raises(ConfigError, match="image size"):
        eval_image(0)
