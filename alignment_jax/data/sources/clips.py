"""Shared by data sets of clips: a list of clips, their recordings, and one folder of frames per clip."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from alignment_jax.core.errors import DataError
from alignment_jax.data.frames import frame_files
from alignment_jax.data.manifest_rows import Folder

AUDIO, FRAMES = "AudioWAV", "Image-01-FPS"
KINDS, MODALITIES = ("audio", "frames"), ("audio", "video")


def existing_folder(argument: str) -> pathlib.Path:
    """The folder of a SPEC, which must exist.

    Raises:
      DataError: there is none.
    """
    folder = pathlib.Path(argument)
    if folder.is_file():
        raise DataError(f"{folder}: a file, not a folder; for a table write pairs:{folder}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def picture_folder(root: pathlib.Path, *names: str) -> Folder:
    """The first existing image folder of these names.

    Raises:
      DataError: there is none.
    """
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        raise DataError(f"{root}: no image folder; looked for {', '.join(names)}")
    return Folder(found)


def find_list(folder: pathlib.Path, *names: str) -> pathlib.Path | None:
    """The first existing file of these names, in the folder or in its annotations/."""
    places = (folder / place / name for name in names for place in ("", "annotations"))
    return next((path for path in places if path.is_file()), None)


def clip_parts(
    folder: Folder, stems: Sequence[str], *, where: str, audio: str = AUDIO, frames: str = FRAMES
) -> tuple[pathlib.Path, tuple[pathlib.Path, ...]]:
    """The recording and the frames of a clip, under the first of its possible names that exists.

    Args:
      folder: of the data set.
      stems: possible names of the clip.
      where: file and row, for messages.
      audio, frames: folders of NAME.wav and of the frame folders NAME.

    Raises:
      DataError: one of the two is missing, empty, or leads out of the folder.
    """
    stem = next((stem for stem in stems if folder.has(f"{audio}/{stem}.wav")), stems[0])
    recording = folder.find(f"{audio}/{stem}.wav", where=where)
    # Frame folders are often named like the video file.
    frame_folder = next((name for name in (stem, f"{stem}.mp4") if folder.has(f"{frames}/{name}")), stem)
    return recording, frame_files(folder.find_folder(f"{frames}/{frame_folder}", where=where), where=where)
