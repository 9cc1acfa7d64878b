"""Inputs of the rows about classes."""

import math
import struct
import wave

from own_data_inputs import COLOURS, N, captions, photos, writes
from own_data_tables import table


def recordings(folder):
    """Writes N different wav files and returns their names relative to `folder`."""
    (folder / "sounds").mkdir()
    names = [f"sounds/{number}.wav" for number in range(N)]
    for number, name in enumerate(names):
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            tone = (int(9000 * math.sin(0.2 * (number + 1) * k)) for k in range(800))
            file.writeframes(b"".join(struct.pack("<h", value) for value in tone))
    return names


LABELS = ["warm" if colour in ("red", "yellow", "orange") else "cold" for colour in COLOURS]


@writes("posts:posts.csv")
def posts(folder):
    table(folder / "posts.csv", ("image", "text", "label"), zip(photos(folder), captions(), LABELS, strict=True))
    return N, N


@writes("samples:talks.csv")
def talks(folder):
    rows = zip(recordings(folder), captions(), LABELS, strict=True)
    table(folder / "talks.csv", ("audio", "text", "label"), rows)
    return N, N


@writes("av:gaps.csv")
def gaps(folder):
    sounds, pictures = recordings(folder), photos(folder)
    sounds[1] = pictures[2] = ""
    table(folder / "gaps.csv", ("audio", "image", "label"), zip(sounds, pictures, LABELS, strict=True))
    return N, N


@writes("labelled:classes.csv")
def classes(folder):
    table(folder / "classes.csv", ("image", "label"), zip(photos(folder), LABELS, strict=True))
    return N, N
