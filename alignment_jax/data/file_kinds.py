"""Detects the format of a file by its first bytes, for readers of several formats and for error messages."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.tars import FileSlice

HEAD = 512  # bytes to inspect


class FileKind(NamedTuple):
    """A format.

    Attributes:
      name: with article, for messages.
      what: "image", "audio", "video" or "other".
      container: PyAV's name of the format, if PyAV reads it; "" for other formats.
    """

    name: str
    what: str
    container: str = ""


_HEIC = ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")
_STARTS = (
    (b"\xff\xd8\xff", FileKind("a JPEG image", "image")),
    (b"\x89PNG", FileKind("a PNG image", "image")),
    (b"GIF8", FileKind("a GIF image", "image")),
    (b"II*\0", FileKind("a TIFF image", "image")),
    (b"MM\0*", FileKind("a TIFF image", "image")),
    (b"BM", FileKind("a BMP image", "image")),
    (b"fLaC", FileKind("a FLAC recording", "audio")),
    (b"OggS", FileKind("an Ogg recording", "audio")),
    (b"ID3", FileKind("an MP3 recording", "audio")),
    (b"\xff\xfb", FileKind("an MP3 recording", "audio")),
    (b"\xff\xf3", FileKind("an MP3 recording", "audio")),
    (b"\xff\xf2", FileKind("an MP3 recording", "audio")),
    (b"\x1aE\xdf\xa3", FileKind("a Matroska or WebM video", "video", "matroska")),
    (b"FLV", FileKind("a Flash video", "video", "flv")),
    (b"\0\0\1\xba", FileKind("an MPEG video", "video", "mpeg")),
    (b"0&\xb2u\x8ef\xcf\x11", FileKind("a Windows Media video", "video", "asf")),
    (b"version https://git-lfs", FileKind("a pointer of Git LFS: run git lfs pull", "other")),
    (b"%PDF", FileKind("a PDF", "other")),
    (b"PK\3\4", FileKind("a ZIP archive", "other")),
    (b"\x1f\x8b", FileKind("a gzip archive", "other")),
    (b"\x93NUMPY", FileKind("a NumPy array", "other")),
)
_RIFF = {
    b"WAVE": FileKind("a WAV recording", "audio"),
    b"WEBP": FileKind("a WebP image", "image"),
    b"AVI ": FileKind("an AVI video", "video", "avi"),
}


def file_kind(head: bytes) -> FileKind | None:
    """The format of a file; None if it is unknown.

    Args:
      head: the first `HEAD` bytes of the file.

    >>> file_kind(b"RIFF\\x24\\0\\0\\0WAVEfmt ").name, file_kind(b"\\0\\0\\0\\x18ftypmp42").what
    ('a WAV recording', 'video')
    """
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return FileKind("an AIFF recording", "audio")
    if head[4:8] == b"ftyp":
        return _mp4(head[8:12].decode("latin-1"))
    if head[4:8] in (b"moov", b"mdat", b"wide", b"skip"):
        return FileKind("a QuickTime video", "video", "mov")
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if len(head) > 188 and head[0] == head[188] == 0x47:
        return FileKind("an MPEG transport stream", "video", "mpegts")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return FileKind("a web page: download the file again", "other")
    if b"<svg" in text:
        return FileKind("an SVG drawing: save it as PNG", "other")
    if head and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return FileKind("a text", "other")
    return None


def _mp4(brand: str) -> FileKind:
    if brand in _HEIC:
        return FileKind("a HEIC image", "image")
    if brand in ("avif", "avis"):
        return FileKind("an AVIF image", "image")
    if brand.startswith(("M4A", "M4B", "M4P")):
        return FileKind("an M4A recording", "audio", "mov")
    return FileKind("a QuickTime video" if brand == "qt  " else "an MP4 video", "video", "mov")


def head_of(item: pathlib.Path | FileSlice | RecordField) -> bytes:
    """The first `HEAD` bytes of a file; empty if it cannot be read."""
    try:
        if isinstance(item, pathlib.Path):
            with open(item, "rb") as file:
                return file.read(HEAD)
        return item.read_bytes()[:HEAD]
    except OSError:
        return b""


def unreadable(error: Exception, kind: FileKind | None, *, wanted: str) -> str:
    """The reason why a file cannot be read as an image or a recording, for messages.

    Args:
      error: of the library; the reason of the operating system (permission denied) is kept.
      kind: format of the file.
      wanted: "image" or "audio".

    >>> unreadable(ValueError("0x7f"), file_kind(b"\\x89PNG"), wanted="image")
    'a PNG image, damaged or truncated'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "out of memory"
    if kind is None:
        return "damaged, or of an unknown format"
    if kind.what == wanted:
        return f"{kind.name}, damaged or truncated"
    return f"it is {kind.name}" + (", which belongs in a column named audio" if kind.what == "audio" else "")
