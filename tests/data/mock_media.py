"""Small recordings, videos and images in common formats."""

import csv
import pathlib

import numpy as np
import pytest
import soundfile
from PIL import Image

# (ending, subtype, rate, channels)
FORMATS = (
    ("wav", "PCM_16", 8000, 1),
    ("wav", "FLOAT", 48000, 2),
    ("flac", "PCM_16", 44100, 2),
    ("ogg", "VORBIS", 22050, 1),
    ("mp3", "MPEG_LAYER_III", 44100, 2),
    ("ogg", "OPUS", 48000, 1),
)
NEEDS = "needs pip install -e '.[test]'"


def tones(folder: pathlib.Path, count: int = 12, seconds: float = 0.2) -> list[str]:
    """Recordings that differ in pitch, in every format; their names."""
    names = []
    for i in range(count):
        ending, subtype, rate, channels = FORMATS[i % len(FORMATS)]
        tone = 0.3 * np.sin(2 * np.pi * (300 + 50 * i) * np.arange(round(seconds * rate)) / rate)
        names.append(f"tone{i}.{ending}")
        soundfile.write(folder / names[-1], np.stack([tone] * channels, 1), rate, subtype=subtype)
    return names


def images(folder: pathlib.Path, count: int = 12) -> list[str]:
    for i in range(count):
        Image.new("RGB", (8, 6), (20 * i, 0, 0)).save(folder / f"im{i}.png")
    return [f"im{i}.png" for i in range(count)]


def heic(folder: pathlib.Path, count: int) -> list[str]:
    heif = pytest.importorskip("pillow_heif", reason=NEEDS)
    for i in range(count):
        heif.from_pillow(Image.new("RGB", (64, 48), (25 * i, 30, 30))).save(folder / f"{i}.heic")
    return [f"{i}.heic" for i in range(count)]


def table(path: pathlib.Path, header: str, rows) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return f"pairs:{path}"


def clip(
    path: pathlib.Path, *, picture: bool = True, sound: bool = True, seconds: float = 2.0, container: str | None = None
) -> pathlib.Path:
    """A video: from blue to red, the upper half white, and a tone of 440 Hz at 16 kHz."""
    av = pytest.importorskip("av", reason=NEEDS)
    with av.open(str(path), "w", format=container) as file:
        video = file.add_stream("mpeg4", rate=10) if picture else None
        audio = file.add_stream("aac", rate=16000) if sound else None
        if audio is not None:
            audio.layout = "stereo"
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
            for i in range(round(10 * seconds)):
                red = round(120 * i / (5 * seconds))
                pixels = np.full((32, 64, 3), (red, 0, 240 - red), np.uint8)
                pixels[:16] = 255
                file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            file.mux(video.encode(None))
        if audio is not None:
            wave = (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
            frame.sample_rate = 16000
            file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return path
