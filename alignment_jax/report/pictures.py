"""Thumbnails as picture files, and picture files as data URLs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from alignment_jax.core.optional import require

# Images up to this side are stored losslessly: JPEG would smear handwritten digits and spectrograms.
_TINY = 64
_PNG, _JPEG = b"\x89PNG", b"\xff\xd8\xff"


def encode_picture(pixels: Any, *, longest_side: int = 240) -> bytes:
    """Encodes an image as a thumbnail: JPEG, or lossless PNG for tiny images.

    Args:
      pixels: uint8 [H, W], [H, W, 1] or [H, W, 3]; or the bytes of a PNG or JPEG file, returned unchanged.
      longest_side: in pixels; larger images are reduced to it.

    Returns:
      The bytes of a PNG or JPEG file.

    Raises:
      ValueError: another dtype or shape, an empty image, or bytes of another format.
      MissingPackageError: pillow is not installed.

    >>> encode_picture(np.zeros((28, 28), np.uint8))[:4]
    b'\\x89PNG'
    """
    if isinstance(pixels, bytes):
        picture_type(pixels)
        return pixels
    array = np.asarray(pixels)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)) or not array.size:
        raise ValueError(f"an image must be uint8 [H, W], [H, W, 1] or [H, W, 3], got {array.dtype} {array.shape}")
    pillow = require("PIL.Image", extra="train", purpose="put pictures into the report")
    image = pillow.fromarray(np.ascontiguousarray(array))
    buffer = io.BytesIO()
    if max(image.size) <= _TINY:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((longest_side, longest_side), pillow.Resampling.LANCZOS)
        image.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def picture_type(data: bytes) -> str:
    """The format of a picture file from its first bytes: "png", "jpeg" or "svg".

    Raises:
      ValueError: another format.

    >>> picture_type(b"<?xml version='1.0'?><svg/>")
    'svg'
    """
    if data.startswith(_PNG):
        return "png"
    if data.startswith(_JPEG):
        return "jpeg"
    if data.lstrip()[:5] in (b"<?xml", b"<svg ") and b"<svg" in data:
        return "svg"
    raise ValueError(f"not a PNG, JPEG or SVG file (it begins with {data[:8]!r})")


def data_url(data: bytes) -> str:
    """A picture file as a `data:` URL.

    >>> data_url(b"<svg />")
    'data:image/svg+xml;base64,PHN2ZyAvPg=='
    """
    kind = picture_type(data)
    return f"data:image/{'svg+xml' if kind == 'svg' else kind};base64,{base64.b64encode(data).decode('ascii')}"
