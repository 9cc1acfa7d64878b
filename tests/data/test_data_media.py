"""Videos, HEIC and large images: read, or refused with a command that converts them."""

import pathlib
import sys

import mock_media as media
import numpy as np
import pytest
from PIL import Image

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.audio import read_audio
from alignment_jax.data.file_kinds import file_kind
from alignment_jax.data.transforms import decode_image

MP4 = b"\0\0\0\x18ftypmp42" + bytes(200)
HEIC = b"\0\0\0\x18ftypheic" + bytes(200)


@pytest.fixture
def without(monkeypatch):
    """Extras that are not installed."""
    for name in ("av", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("reader", "name", "content", "parts"),
    [
        (decode_image, "my clip.mp4", MP4, ["an MP4 video", "ffmpeg -i '{}' -vf thumbnail -frames:v 1", "[video]"]),
        (read_audio, "clip.mp4", MP4, ["an MP4 video", "ffmpeg -i {} -vn", ".wav", "[video]"]),
        (read_audio, "a.m4a", MP4.replace(b"mp42", b"M4A "), ["an M4A recording", "ffmpeg -i {} -vn", "[video]"]),
        (decode_image, "IMG_1.HEIC", HEIC, ["a HEIC image", "heif-convert {}", "IMG_1.jpg", "[heic]"]),
    ],
)
def test_formats_that_need_an_extra_name_it_and_a_command(reader, name, content, parts, tmp_path, without):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        reader(path, where="t.csv, row 3")
    assert str(error.value).startswith("t.csv, row 3: ")
    for part in parts:
        assert part.format(path) in str(error.value)


KINDS = {
    "a WAV recording": b"RIFF\0\0\0\0WAVEfmt ",
    "an AVI video": b"RIFF\0\0\0\0AVI LIST",
    "an MPEG transport stream": (b"G" + bytes(187)) * 2,
    "a Matroska or WebM video": b"\x1aE\xdf\xa3....",
    "a QuickTime video": b"\0\0\0\x14ftypqt  ",
    "an AVIF image": b"\0\0\0\x20ftypavif",
    "a web page": b"\n<!DOCTYPE html><html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "a text": b"la la la",
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_files(name):
    assert file_kind(KINDS[name]).name.startswith(name)
    assert file_kind(bytes(20)) is None


@pytest.mark.parametrize(
    ("reader", "content", "reason"),
    [
        (decode_image, b"<html>404", "a web page"),
        (decode_image, b"\x89PNG\r\n\x1a\n" + bytes(40), "a PNG image"),
        (decode_image, bytes(40), "damaged"),
        (read_audio, b"\x89PNG\r\n\x1a\n" + bytes(40), "a PNG image"),
        (read_audio, b"fLaC" + bytes(40), "a FLAC recording"),
    ],
)
def test_reasons_are_in_our_own_words(reader, content, reason, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError) as error:
        reader(tmp_path / "x")
    assert reason in str(error.value).partition("(")[2]


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_a_video_gives_its_middle_frame_and_its_sound(ending, tmp_path):
    path = media.clip(tmp_path / f"clip{ending}")
    frame = decode_image(path)
    assert frame.shape == (32, 64, 3)
    assert frame[:12].min() > 230
    assert np.abs(frame[20:].mean((0, 1)) - (120, 0, 120)).max() < 25
    assert decode_image(path, shorter_side=8).shape == (8, 16, 3)
    wave, rate = read_audio(path)
    assert rate == 16000
    assert abs(len(wave) / rate - 2) < 0.2
    found = np.abs(np.fft.rfft(wave[8000:24000]))  # one second: a bin is 1 Hz
    assert abs(int(found.argmax()) - 440) <= 1


def test_a_video_that_was_filmed_upright_is_upright(tmp_path):
    path = media.clip(tmp_path / "clip.mp4")
    turn = {"one": 0x10000, "minus": 0xFFFF0000, "last": 0x40000000}

    def matrix(*cells):
        return b"".join(turn.get(cell, 0).to_bytes(4, "big") for cell in cells)

    as_is = matrix("one", "", "", "", "one", "", "", "", "last")
    right = matrix("", "one", "", "minus", "", "", "", "", "last")  # shown turned to the right by 90 degrees
    content = path.read_bytes()
    place = content.index(as_is, content.index(b"tkhd"))
    path.write_bytes(content[:place] + right + content[place + len(as_is) :])
    frame = decode_image(path)
    assert frame.shape == (64, 32, 3)
    assert frame[:, 20:].min() > 200  # the top is now on the right


def test_videos_that_lack_a_part_or_an_end_are_named(tmp_path):
    silent, dark = media.clip(tmp_path / "a.mp4", sound=False), media.clip(tmp_path / "b.mp4", picture=False)
    with pytest.raises(DataError, match=r"a\.mp4: an MP4 video"):
        read_audio(silent)
    with pytest.raises(DataError, match=r"b\.mp4: an MP4 video"):
        decode_image(dark)
    for ending in (".mp4", ".mkv"):
        cut = media.clip(tmp_path / f"c{ending}")
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
        for reader in (read_audio, decode_image):
            with pytest.raises(DataError, match=r"MP4|M4A|WebM|video"):
                reader(cut)


def test_videos_in_a_table(tmp_path):
    names = [media.clip(tmp_path / f"{i}.mp4").name for i in range(3)]
    spec = media.table(tmp_path / "t.csv", "video,caption", [(name, f"clip {name}") for name in names])
    assert data.load(spec, on_bad_sample="skip").modalities == ("image", "text")
    spec = media.table(tmp_path / "t.csv", "video", [[name] for name in names])
    with pytest.raises(DataError, match=",audio=video,image=video"):
        data.load(spec)
    split = data.load(f"{spec},audio=video,image=video", on_bad_sample="skip").splits["all"]
    assert (split.a.kind, split.b.kind, len(split)) == ("audio", "image", 3)


def test_m4a_is_a_recording(tmp_path):
    path = media.clip(tmp_path / "a.m4a", picture=False, container="ipod")
    assert file_kind(path.read_bytes()).what == "audio"
    assert len(read_audio(path)[0]) > 30000


def test_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason=media.NEEDS)
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(tmp_path / "x.heic")
    image = decode_image(tmp_path / "x.heic")
    assert image.shape == (48, 64, 3)
    assert np.abs(image.mean((0, 1)) - (200, 30, 30)).max() < 6
    column = data.ImageColumn((tmp_path / "x.heic",))
    split = data.PairSplit(column, data.TextColumn(("x",)), np.zeros(1), np.array(["x"]))
    described = data.describe(data.PairSource("x", "x", {"all": split}, False))
    assert described["splits"]["all"]["a"]["width"]["max"] == 64


@pytest.fixture
def small_limit(monkeypatch):
    """As if Pillow took 8000 pixels at most."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)


def test_a_large_jpeg_is_decoded_small(tmp_path, small_limit):
    Image.new("RGB", (400, 200), "red").save(tmp_path / "x.jpg")
    assert decode_image(tmp_path / "x.jpg").shape == (50, 100, 3)
    assert decode_image(tmp_path / "x.jpg", shorter_side=20).shape == (20, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 4000


@pytest.mark.parametrize("ending", ["png", "webp", "bmp"])
def test_other_large_images_are_refused_with_both_ways_out(ending, tmp_path, small_limit, monkeypatch):
    path = pathlib.Path(tmp_path / f"x.{ending}")
    Image.new("RGB", (400, 200), "red").save(path)
    for side in (None, 20):
        with pytest.raises(DataError) as error:
            decode_image(path, shorter_side=side, where="t.csv, row 3")
        for part in ("t.csv, row 3", "400 x 200", "ALIGNMENT_JAX_MAX_MEGAPIXELS=1"):
            assert part in str(error.value)
    monkeypatch.setenv("ALIGNMENT_JAX_MAX_MEGAPIXELS", "1")
    assert decode_image(path).shape == (200, 400, 3)
    monkeypatch.setenv("ALIGNMENT_JAX_MAX_MEGAPIXELS", "many")
    with pytest.raises(ConfigError, match="ALIGNMENT_JAX_MAX_MEGAPIXELS"):
        decode_image(path)


def test_a_large_image_is_described(tmp_path, small_limit):
    Image.new("RGB", (400, 200), "red").save(tmp_path / "x.png")
    column = data.ImageColumn((tmp_path / "x.png",))
    split = data.PairSplit(column, data.TextColumn(("x",)), np.zeros(1), np.array(["x"]))
    source = data.PairSource("x", "x", {"all": split}, False)
    assert data.describe(source)["splits"]["all"]["a"]["width"]["max"] == 400
    assert "400 x 200" in data.problems(source)[0]
