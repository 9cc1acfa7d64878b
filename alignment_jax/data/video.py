"""Reads the middle frame and the sound of video files with PyAV."""

from __future__ import annotations

import pathlib
import shlex
from typing import Any, BinaryIO

import numpy as np

from alignment_jax.core.errors import DataError, MissingPackageError, UnreadableFileError
from alignment_jax.core.optional import require
from alignment_jax.data.file_kinds import FileKind

_WHOLE = 0.9  # a file that ends before this share of its stated length is truncated
_COMMANDS = {"picture": "-vf thumbnail -frames:v 1 {}.jpg", "sound": "-vn {}.wav"}


def middle_frame(file: BinaryIO, kind: FileKind, *, where: str, name: str) -> np.ndarray:
    """The middle frame of a video, upright: uint8 [H, W, 3].

    Args:
      file: its bytes. Only the format `kind` is allowed, so that the content cannot refer to other files or addresses.
      kind: its format.
      where: its name in messages.
      name: file name, for the command in the message.

    Raises:
      DataError: it is damaged or has no picture, or PyAV is missing; the message then has a command that writes an
        image file.
    """
    av = _pyav(kind, "picture", where, name)
    try:
        with av.open(file, format=kind.container) as container:
            if not container.streams.video:
                raise UnreadableFileError(f"{where}: {kind.name} without a video stream")
            stream = container.streams.video[0]
            middle = _middle(container, stream)
            found = None
            if middle is not None:
                container.seek(middle, stream=stream)
            for frame in container.decode(stream):
                found = frame
                if middle is None or frame.pts is None or frame.pts >= middle:
                    break
            else:  # the stream ends before the middle
                found = None
            if found is None:
                raise UnreadableFileError(f"{where}: {kind.name}, damaged or truncated")
            pixels = found.to_ndarray(format="rgb24")
            return np.ascontiguousarray(np.rot90(pixels, round(getattr(found, "rotation", 0) / 90)))
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise _damaged(error, kind, where) from error


def read_sound(file: BinaryIO, kind: FileKind, *, where: str, name: str) -> tuple[np.ndarray, int]:
    """The sound of a video or an M4A file, channels averaged: (float32 [samples] in [-1, 1], sampling rate in Hz).

    Args, raises: see `middle_frame`.
    """
    av = _pyav(kind, "sound", where, name)
    try:
        with av.open(file, format=kind.container) as container:
            if not container.streams.audio:
                raise UnreadableFileError(f"{where}: {kind.name} without sound")
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            resampler = av.AudioResampler(format="fltp", rate=rate)
            parts, end = [], 0.0
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is stream:
                    decoded = [part for frame in packet.decode() for part in resampler.resample(frame)]
                    parts += [part.to_ndarray().mean(axis=0) for part in decoded]
            parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(None)]
            begin, length = ((number or 0) / 1e6 for number in (container.start_time, container.duration))
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise _damaged(error, kind, where) from error
    waveform = np.concatenate([np.zeros(0), *parts]).astype(np.float32)
    if end - begin < _WHOLE * length:
        raise UnreadableFileError(f"{where}: {kind.name}, truncated: {end - begin:.1f} of {length:.1f} seconds")
    return waveform, rate


def _middle(container: Any, stream: Any) -> int | None:
    """The time of the middle in the stream's units; None if its length is unknown."""
    if stream.duration is not None:
        length = stream.duration
    elif container.duration is not None:  # microseconds
        length = int(container.duration / 1e6 / stream.time_base)
    else:
        return None
    return int((stream.start_time or 0) + length // 2)


def _pyav(kind: FileKind, part: str, where: str, name: str) -> Any:
    try:
        return require("av", extra="video", purpose="read videos")
    except MissingPackageError as error:
        stem = shlex.quote(str(pathlib.PurePath(name).with_suffix("")))
        command = f"ffmpeg -i {shlex.quote(name)} {_COMMANDS[part].format(stem)}"
        raise UnreadableFileError(
            f"{where}: {kind.name}; write its {part} to a file with {command}, or install the reader: pip install "
            "'alignment_jax[video]'"
        ) from error


def _damaged(error: Exception, kind: FileKind, where: str) -> Exception:
    return error if isinstance(error, DataError) else UnreadableFileError(f"{where}: {kind.name}, damaged or truncated")
