"""Reads images of more than eight bits per channel without loss; Pillow's conversion to eight bits clips them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from alignment_jax.data.columns import ImageFile
from alignment_jax.data.open_image import open_image, reduce_on_decoding
from alignment_jax.data.record_fields import RecordField

# Formats that are read as eight bits: not opened.
_EIGHT_BITS = (
    *(".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".heic", ".heif"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"),
)
# Byte order of a raw mode -> the one with which Pillow keeps the other byte.
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

_GRAY_ALPHA = "LA;16B"  # a gray PNG with transparency


def opener(item: ImageFile) -> Callable[[], Any]:
    """Returns a function that opens the file as a PIL image."""
    return lambda: open_image(item, where=str(item))


def is_deep(image: Any) -> bool:
    """Whether an opened PIL image, not loaded yet, has more than eight bits a channel."""
    return image.mode == "F" or image.mode.startswith("I") or _two_bytes(image)


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    return str(args if isinstance(args, str) else args[0] if args else "")


def _two_bytes(image: Any) -> bool:
    """Whether it is a 16-bit colour image, of which Pillow keeps the upper eight bits."""
    tiles: Any = getattr(image, "tile", None)
    return bool(tiles and image.mode in ("RGB", "RGBA") and ";16" in _raw_mode(tiles[0]))


def deep_values(image: Any, open_again: Callable[[], Any], upright: Callable[[Any], Any]) -> np.ndarray | None:
    """The stored pixel values [H, W] or [H, W, 3 or 4]; None for eight bits.

    Args:
      image: opened and not loaded yet.
      open_again: opens the same image again.
      upright: rotates it by its EXIF tag.
    """
    if not is_deep(image):
        return None
    if not _two_bytes(image):
        return np.asarray(upright(image))
    if _raw_mode(image.tile[0]) == _GRAY_ALPHA:
        # No raw mode of Pillow keeps the other bytes: read the four bytes of a pixel as RGBA.
        image.tile = [(*tile[:3], "RGBA") for tile in image.tile]
        stored = np.asarray(upright(image)).astype(np.uint16)
        pair = stored[..., ::2] * 256 + stored[..., 1::2]
        return pair[..., [0, 0, 0, 1]]
    with open_again() as lower:
        lower.tile = [(*tile[:3], _swapped(tile[3])) for tile in lower.tile]
        low = np.asarray(upright(lower))
    return np.asarray(upright(image)).astype(np.uint16) * 256 + low


def _swapped(args: Any) -> Any:
    raw = args if isinstance(args, str) else args[0]
    other = raw[:-1] + _OTHER[raw[-1]]
    return other if isinstance(args, str) else (other, *args[1:])


def read_deep(item: ImageFile | np.ndarray) -> np.ndarray | None:
    """The stored pixel values of a file without alpha; None for eight bits and for unreadable files."""
    if isinstance(item, np.ndarray):
        return None
    open_again = opener(item)
    try:
        with open_again() as image:
            reduce_on_decoding(image, None, where=str(item))
            values = deep_values(image, open_again, lambda found: found)
    except Exception:  # a damaged file makes the decoders raise almost anything
        return None
    return values[..., :3] if values is not None and values.ndim == 3 else values


def deep_items(items: tuple[ImageFile | np.ndarray, ...]) -> list[ImageFile | np.ndarray]:
    """The distinct items of more than eight bits, by their headers."""
    distinct = list({item if isinstance(item, pathlib.Path) else id(item): item for item in items}.values())
    # All records of a set have one format.
    if distinct and isinstance(distinct[0], RecordField):
        return distinct if _may_be_deep(distinct[0]) else []
    return [item for item in distinct if _may_be_deep(item)]


def _may_be_deep(item: ImageFile | np.ndarray) -> bool:
    if isinstance(item, np.ndarray) or str(item).lower().endswith(_EIGHT_BITS):
        return False
    try:
        with opener(item)() as image:  # reads only the header
            return is_deep(image)
    except Exception:  # decoders raise almost anything; decoding the image names the problem
        return False
