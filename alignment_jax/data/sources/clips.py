"""What the sets of clips share: a recording in one folder, its frames in a folder of their own, a list of both."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from alignment_jax.core.errors import DataError
from alignment_jax.data.frames import frame_files
from alignment_jax.data.manifest_rows import Folder

AUDIO, FRAMES = "AudioWAV", "Image-01-FPS"
KINDS, MODALITIES = ("audio", "frames"), ("audio", "video")


def existing_folder(argument: str) -> pathlib.Path:
    """The folder of a SPEC.

    Raises:
      DataError: there is none.
    """
    folder = pathlib.Path(argument)
    if folder.is_file():
        raise DataError(f"{folder}: a file, where a folder is needed; of a table write pairs:{folder}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def picture_folder(root: pathlib.Path, *names: str) -> Folder:
    """The first folder of pictures of one of these names.

    Raises:
      DataError: there is none.
    """
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        raise DataError(f"{root}: no folder of pictures; looked for {', '.join(names)}")
    return Folder(found)


def find_list(folder: pathlib.Path, *names: str) -> pathlib.Path | None:
    """The first list of one of these names, in the folder or in its annotations/."""
    places = (folder / place / name for name in names for place in ("", "annotations"))
    return next((path for path in places if path.is_file()), None)


def clip_parts(
    folder: Folder, stems: Sequence[str], *, where: str, audio: str = AUDIO, frames: str = FRAMES
) -> tuple[pathlib.Path, tuple[pathlib.Path, ...]]:
    """The recording and the frames of a clip, under the first of its possible names that is there.

    Args:
      folder: of the data set.
      stems: names that the clip may go by.
      where: file and row, for messages.
      audio, frames: where NAME.wav and the folders NAME of frames are.

    Raises:
      DataError: one of the two is missing, empty, or leads out of the folder.
    """
    stem = next((stem for stem in stems if folder.has(f"{audio}/{stem}.wav")), stems[0])
    recording = folder.find(f"{audio}/{stem}.wav", where=where)
    # Cutting a video into frames often keeps the ending of its name for the folder.
    shown = next((name for name in (stem, f"{stem}.mp4") if folder.has(f"{frames}/{name}")), stem)
    return recording, frame_files(folder.find_folder(f"{frames}/{shown}", where=where), where=where)
