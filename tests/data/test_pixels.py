"""Images of more than eight bits become the same as their eight-bit versions, with one range per data set."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alignment_jax import data
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.columns import ImageColumn, TextColumn
from alignment_jax.data.pixel_range import in_range, parse_pixel_range, pixel_values, to_eight_bits, with_pixel_range
from alignment_jax.data.split import PairSource, PairSplit
from alignment_jax.data.transforms import decode_image

N = 6


def pictures():
    """N grey pictures of different brightness, uint8 [9, 11]; the darkest alone uses five bits."""
    ramp = np.add.outer(np.arange(9), np.arange(11))
    return [(ramp * (k + 1) + 2 * k).clip(0, 200).astype(np.uint8) for k in range(N)]


def png_of_16_bits(pixels):
    """A PNG of uint16 [H, W, 2, 3 or 4], which Pillow does not write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def as_float_files(folder, scale, shift=0.0):
    paths = [folder / f"{k}.tif" for k in range(N)]
    for path, picture in zip(paths, pictures(), strict=True):
        Image.fromarray(picture.astype(np.float32) * np.float32(scale) + np.float32(shift)).save(path)
    return paths


def as_whole_files(folder, factor, dtype, suffix, shift=0):
    paths = [folder / f"{k}{suffix}" for k in range(N)]
    for path, picture in zip(paths, pictures(), strict=True):
        Image.fromarray((picture.astype(np.int64) * factor + shift).astype(dtype)).save(path)
    return paths


def as_colour_files(folder, factor, channels):
    paths = [folder / f"{k}.png" for k in range(N)]
    for path, picture in zip(paths, pictures(), strict=True):
        pixels = np.repeat((picture.astype(np.uint16) * factor)[..., None], channels, axis=2)
        if channels in (2, 4):
            pixels[..., -1] = 65535
        path.write_bytes(png_of_16_bits(pixels))
    return paths


KINDS = {
    "8 of 16 bits": (lambda f: as_whole_files(f, 1, np.uint16, ".png"), (0, 256)),
    "10 of 16 bits": (lambda f: as_whole_files(f, 4, np.uint16, ".png"), (0, 1024)),
    "12 of 16 bits": (lambda f: as_whole_files(f, 16, np.uint16, ".png"), (0, 4096)),
    "16 of 16 bits": (lambda f: as_whole_files(f, 256, np.uint16, ".tif"), (0, 65536)),
    "int32": (lambda f: as_whole_files(f, 64, np.int32, ".tif"), (0, 16384)),
    "floats to 1": (lambda f: as_float_files(f, 1 / 255), (0, 1)),
    "floats to 255": (lambda f: as_float_files(f, 1), (0, 256)),
    "colour, 12 of 16 bits": (lambda f: as_colour_files(f, 16, 3), (0, 4096)),
    "colour and opacity, 12 of 16 bits": (lambda f: as_colour_files(f, 16, 4), (0, 4096)),
    "gray and opacity, 12 of 16 bits": (lambda f: as_colour_files(f, 16, 2), (0, 4096)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pictures_with_more_bits_are_the_same_pictures(kind, tmp_path):
    write, expected = KINDS[kind]
    column = in_range(ImageColumn(write(tmp_path)), "auto")
    assert column.pixel_range == expected
    for found, picture in zip(column.read(np.arange(N)), pictures(), strict=True):
        np.testing.assert_array_equal(found, np.repeat(picture[..., None], 3, axis=2))


def test_numbers_that_no_count_of_bits_holds_go_from_the_smallest_to_the_largest(tmp_path):
    for column in (
        ImageColumn(as_whole_files(tmp_path, 16, np.int32, ".tif", shift=-1024)),
        ImageColumn(as_float_files(tmp_path, 16, shift=-1024)),
    ):
        found = in_range(column, "auto")
        assert found.pixel_range == (-1024, 118 * 16 - 1024)
        pixels = np.stack(found.read(np.arange(N)))[..., 0].astype(int)
        # The picture, stretched to black and white.
        np.testing.assert_allclose(pixels, np.stack(pictures()) * (256 / 118), atol=1)


def test_the_range_is_of_the_set_and_not_of_an_image(tmp_path):
    column = in_range(ImageColumn(as_whole_files(tmp_path, 16, np.uint16, ".png")), "auto")
    largest = [int(image.max()) for image in column.read(np.arange(N))]
    assert largest == [picture.max() for picture in pictures()]
    assert len(set(largest)) > 1


def test_percentiles_and_numbers(tmp_path):
    paths = as_whole_files(tmp_path, 16, np.uint16, ".png")
    pixels = np.stack(pictures()).astype(float) * 16
    low, high = np.percentile(pixels, [0.5, 99.5])
    assert in_range(ImageColumn(paths), "percentiles").pixel_range == (low, high)
    column = in_range(ImageColumn(paths), "1600,3200")
    expected = ((pixels - 1600) * 256 / 1600).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(np.stack(column.read(np.arange(N)))[..., 0], expected)


def test_images_of_eight_bits_are_neither_scaled_nor_opened(tmp_path):
    names = []
    for k, picture in enumerate(pictures()):
        names += [tmp_path / f"{k}.png", tmp_path / f"{k}.jpg"]
        for name in names[-2:]:
            Image.fromarray(picture).save(name)
    column = in_range(ImageColumn(names), "auto")
    assert column.pixel_range is None
    with Image.open(names[0]) as image:
        np.testing.assert_array_equal(column.read(np.array([0]))[0], np.asarray(image.convert("RGB")))
    # By its name alone a JPEG has eight bits: nothing is read for it.
    assert pixel_values([ImageColumn([tmp_path / "nowhere.jpg"])]) is None
    np.testing.assert_array_equal(
        decode_image(names[0], pixel_range=(0, 4096)),
        decode_image(names[0]),
        err_msg="a range acts on deep images alone",
    )


def source_of(paths):
    def split(rows):
        return PairSplit(
            ImageColumn([paths[i] for i in rows]),
            TextColumn([f"picture {i}" for i in rows]),
            np.arange(len(rows)),
            np.array([f"id {i}" for i in rows]),
        )

    return PairSource("pairs", "pairs:x", {"train": split([4, 5]), "val": split([0, 1]), "test": split([2, 3])})


def test_all_splits_have_the_range_of_train(tmp_path):
    source, measured = with_pixel_range(source_of(as_whole_files(tmp_path, 16, np.uint16, ".png")))
    assert (measured.low, measured.high) == (8 * 16, 118 * 16)
    assert {name: split.a.pixel_range for name, split in source.splits.items()} == dict.fromkeys(
        ("train", "val", "test"), (0, 4096)
    )
    # A column with a range keeps it.
    assert in_range(source.splits["val"].a, "0,7").pixel_range == (0, 4096)
    assert with_pixel_range(source, "0,5")[0].splits["test"].a.pixel_range == (0, 4096)


def test_whole_numbers_and_floats_together_are_refused(tmp_path):
    paths = [as_whole_files(tmp_path, 16, np.uint16, ".png")[0], as_float_files(tmp_path, 1 / 255)[0]]
    with pytest.raises(DataError, match=r"0\.png .*0\.tif .*pixel_range=LOW,HIGH"):
        pixel_values([ImageColumn(paths)])


def test_nan_pixels_are_black():
    assert to_eight_bits(np.array([np.nan, 0.5, 1.0], np.float32)).tolist() == [0, 128, 255]
    assert to_eight_bits(np.full((2, 2), np.nan, np.float32)).tolist() == [[0, 0], [0, 0]]


def test_a_setting_that_is_no_range_is_refused():
    assert parse_pixel_range("auto:0,4096") == (0, 4096)
    assert parse_pixel_range("percentiles") is None
    for text in ("best", "5", "5,5", "9,1", "0,inf", "1,2,3", "most:0,1"):
        with pytest.raises(ConfigError, match=r"input\.pixel_range"):
            parse_pixel_range(text)


def test_a_damaged_file_is_left_to_who_decodes_it(tmp_path):
    paths = as_whole_files(tmp_path, 16, np.uint16, ".png")
    paths[0].write_bytes(paths[0].read_bytes()[:60])
    assert in_range(ImageColumn(paths), "auto").pixel_range == (0, 4096)
    with pytest.raises(DataError, match=r"\.(png|tif)"):
        decode_image(paths[0], pixel_range=(0, 4096))


def test_data_shows_the_pixels_and_their_range(tmp_path, capsys):
    as_whole_files(tmp_path, 16, np.uint16, ".png")
    rows = "".join(f"{k}.png,picture {k},{'train' if k else 'val'}\n" for k in range(N))
    (tmp_path / "x.csv").write_text(f"image,caption,split\n{rows}")
    assert main(["data", "--data", f"pairs:{tmp_path / 'x.csv'}"]) == 0
    train, val = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  a "))
    assert "pixels min 32, max 1888; pixel_range 0,4096" in train
    assert "pixels min 0, max 288; pixel_range 0,4096" in val
    assert (
        data.describe(data.load("synthetic:train=4,val=2,test=2,size=8"))["splits"]["train"]["a"]
        .keys()
        .isdisjoint({"pixels", "pixel_range"})
    )
