"""Inputs of the rows about recordings, videos and other media."""

import mock_media as media
from own_data_inputs import N, captions, photos, writes
from own_data_tables import table


@writes("pairs:sounds.csv")
def recordings_with_captions(folder):
    table(folder / "sounds.csv", ["audio", "caption"], zip(media.tones(folder, N), captions(), strict=True))
    return N, N


@writes("pairs:clips.csv")
def recordings_with_images(folder):
    table(folder / "clips.csv", ["audio", "image"], zip(media.tones(folder, N), photos(folder), strict=True))
    return N, N


@writes("pairs:files.csv,audio=path")
def recordings_in_another_column(folder):
    table(folder / "files.csv", ["path", "caption"], zip(media.tones(folder, N), captions(), strict=True))
    return N, N


@writes("pairs:videos.csv")
def videos_with_captions(folder):
    names = [media.clip(folder / f"{number}.mp4", seconds=0.1 * number + 0.5).name for number in range(3)]
    table(folder / "videos.csv", ["video", "caption"], zip(names, captions(), strict=False))
    return 3, 3


@writes("pairs:films.csv,audio=video,image=video")
def videos_alone(folder):
    names = [media.clip(folder / f"{number}.mp4", seconds=0.1 * number + 0.5).name for number in range(3)]
    table(folder / "films.csv", ["video"], [[name] for name in names])
    return 3, 3


@writes("pairs:phone.csv")
def heic(folder):
    table(folder / "phone.csv", ["image", "caption"], zip(media.heic(folder, N), captions(), strict=True))
    return N, N


@writes("alignment-jax data --data pairs:broken.csv --on_bad_sample=skip")
def broken(folder):
    names = photos(folder)
    table(folder / "broken.csv", ["image", "caption"], zip(names, captions(), strict=True))
    (folder / names[2]).write_bytes(b"<html>not found</html>")
