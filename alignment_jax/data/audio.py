"""Reads recordings and computes log-mel spectrograms, with white noise if asked."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError, UnreadableFileError
from alignment_jax.core.optional import require
from alignment_jax.data.columns import ArrayColumn, file_identity
from alignment_jax.data.file_kinds import file_kind, head_of, unreadable
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.split import NOTHING
from alignment_jax.data.tars import FileSlice
from alignment_jax.data.video import read_sound

# Dynamic range of a spectrogram below its loudest bin; everything quieter becomes -1.
_RANGE_DB = 60.0
# A RIFF size from here on means unknown (a stream).
_UNKNOWN_SIZE = 0xFFFFFF00


def read_audio(path: pathlib.Path | FileSlice | RecordField, *, where: str | None = None) -> tuple[np.ndarray, int]:
    """Reads a recording (wav, flac, ogg, mp3), or the sound of an M4A file or a video, its channels averaged.

    Args:
      path: the file, also inside an archive.
      where: name of the file in messages; default the path.

    Returns:
      (float32 [samples] in [-1, 1], sampling rate in Hz).

    Raises:
      DataError: the file cannot be read, is truncated, or has no sound.
    """
    soundfile = require("soundfile", extra="train", purpose="read audio files")
    where = where or str(path)
    try:
        _check_whole(path, where)
        samples, rate = soundfile.read(
            str(path) if isinstance(path, pathlib.Path) else path.open(), dtype="float32", always_2d=True
        )
    except (OSError, RuntimeError, ValueError) as error:  # the library's own error is a RuntimeError
        if isinstance(error, DataError):
            raise
        kind = file_kind(head_of(path))
        if kind is None or not kind.container:
            reason = unreadable(error, kind, wanted="audio")
            raise UnreadableFileError(f"{where}: not a readable audio file ({reason})") from error
        with path.open("rb") if isinstance(path, pathlib.Path) else path.open() as opened:
            waveform, rate = read_sound(opened, kind, where=where, name=str(path))
        samples = waveform[:, None]
    if not len(samples):
        raise UnreadableFileError(f"{where}: an audio file without samples")
    if not np.isfinite(samples).all():
        raise UnreadableFileError(f"{where}: an audio file with samples that are not finite")
    return samples.mean(axis=1), int(rate)


def _check_whole(path: pathlib.Path | FileSlice | RecordField, where: str) -> None:
    """Raises DataError for a truncated wav file, which libsndfile would decode without an error."""
    head = head_of(path)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        size = int.from_bytes(head[4:8], "little") + 8
        here = path.stat().st_size if isinstance(path, pathlib.Path) else path.size
        if size < _UNKNOWN_SIZE and size > here:
            raise UnreadableFileError(f"{where}: not a readable audio file (truncated: {here} of {size} bytes)")


@dataclasses.dataclass(frozen=True)
class AudioColumn:
    """Recordings in files, decoded when they are read.

    Attributes:
      items: files, also inside archives and tables; None for a missing recording, which is read as silence.
      origins: where each comes from (manifest and row), for messages.
      verified: every file has been decoded without an error.
    """

    items: Sequence[pathlib.Path | FileSlice | RecordField | None]
    origins: Sequence[str] | None = None
    verified: bool = False
    kind: str = "audio"

    def __len__(self) -> int:
        return len(self.items)

    def read(self, indices: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """(waveform, sampling rate) of each."""
        return [self._read(i) for i in np.asarray(indices).tolist()]

    def _read(self, index: int) -> tuple[np.ndarray, int]:
        path = self.items[index]
        return (np.zeros(1600, np.float32), 16000) if path is None else read_audio(path, where=self.describe(index))

    def take(self, indices: np.ndarray) -> AudioColumn:
        chosen = np.asarray(indices).tolist()
        origins = None if self.origins is None else tuple(self.origins[i] for i in chosen)
        return dataclasses.replace(self, items=tuple(self.items[i] for i in chosen), origins=origins)

    def describe(self, index: int) -> str:
        parts = [] if self.items[index] is None else [str(self.items[index])]
        parts += [] if self.origins is None else [self.origins[index]]
        return " from ".join(parts) or f"recording {index}"

    def identity(self, index: int, *, exact: bool) -> Hashable:
        item = self.items[index]
        if item is None:
            return NOTHING
        return file_identity(item, exact=exact)

    def spectrograms(self, transform: Callable[[tuple[np.ndarray, int]], np.ndarray]) -> ArrayColumn:
        """Transforms all recordings and keeps the results in memory.

        Args:
          transform: see `log_mel`; every result has the same shape.
        """
        first = transform(self.read(np.array([0]))[0])
        array = np.empty((len(self), *first.shape), first.dtype)
        for i in range(len(self)):
            array[i] = transform(self.read(np.array([i]))[0])
        return ArrayColumn(array, kind="audio", name="audio")


def log_mel(
    *, sample_rate: int, seconds: float, bands: int = 64, noise: float = 0.0
) -> Callable[[tuple[np.ndarray, int]], np.ndarray]:
    """Makes a transform from a recording to a log-mel spectrogram of fixed size.

    Windows of 25 ms every 10 ms. The log energy of each mel band is clipped to 60 dB below the loudest bin and scaled
    to [-1, 1]: the result does not depend on loudness, and silence is -1. Long recordings are cropped to their middle,
    short ones are padded with silence on both sides.

    Args:
      sample_rate: recordings are resampled to this rate, Hz.
      seconds: length of the result.
      bands: mel bands.
      noise: RMS of white noise that is added to the waveform, relative to the RMS of the recording (1 is 0 dB). It
        makes this modality less informative. The noise of a recording is always the same.

    Returns:
      (waveform float32 [samples], rate in Hz) -> float32 [frames, bands], frames = 100 seconds.

    Raises:
      ConfigError: a value out of range.

    >>> tone = np.sin(np.arange(4000) / 5).astype(np.float32)
    >>> log_mel(sample_rate=8000, seconds=1.0, bands=40)((tone, 8000)).shape
    (100, 40)

    Source: the filter bank is kaldi-native-fbank's (Kaldi's window, mel scale and pre-emphasis).
    """
    frames = round(100 * seconds)
    for name, value, low in (("sample_rate", sample_rate, 1000), ("bands", bands, 1), ("seconds", frames, 1)):
        if value < low:
            raise ConfigError(f"audio.{name} is too small: {sample_rate} Hz, {seconds} s, {bands} bands")
    if noise < 0:
        raise ConfigError(f"audio.noise must be at least 0, got {noise}")
    fbank = require("kaldi_native_fbank", extra="train", purpose="compute log-mel spectrograms")
    options = fbank.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.dither = 0.0  # dither is random
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = bands

    def transform(item: tuple[np.ndarray, int]) -> np.ndarray:
        waveform, rate = item
        waveform = _resampled(waveform, rate, sample_rate)
        if noise > 0:
            waveform = add_noise(waveform, noise)
        peak = np.abs(waveform).max(initial=0.0)
        if peak == 0.0:
            return np.full((frames, bands), -1.0, np.float32)
        computer = fbank.OnlineFbank(options)
        # Kaldi's energy floor is meant for 16-bit samples; scale quiet recordings above it.
        computer.accept_waveform(sample_rate, waveform * np.float32(2**15 / peak))
        computer.input_finished()
        found = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
        return _fitted(_scaled(found), frames)

    return transform


def add_noise(waveform: np.ndarray, ratio: float) -> np.ndarray:
    """Adds white noise of `ratio` times the RMS of the waveform; the seed is a hash of the waveform."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(waveform).tobytes()))
    level = ratio * float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    return waveform + np.float32(level) * rng.standard_normal(waveform.shape, np.float32)


def _resampled(waveform: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return waveform
    signal: Any = require("scipy.signal", extra="train", purpose="resample audio")
    common = math.gcd(rate, wanted)
    return signal.resample_poly(waveform, wanted // common, rate // common).astype(np.float32)


def _scaled(log_energy: np.ndarray) -> np.ndarray:
    width = _RANGE_DB / 10.0 * math.log(10.0)
    return np.maximum((log_energy - log_energy.max()) / width, -1.0) * 2.0 + 1.0


def _fitted(frames: np.ndarray, length: int) -> np.ndarray:
    out = np.full((length, frames.shape[1]), -1.0, np.float32)
    kept = min(length, len(frames))
    source, target = (len(frames) - kept) // 2, (length - kept) // 2
    out[target : target + kept] = frames[source : source + kept]
    return out
