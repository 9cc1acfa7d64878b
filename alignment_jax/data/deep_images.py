"""Pixels of image files as they are stored where that is more than eight bits a channel; Pillow's own conversion to
eight bits clips them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from alignment_jax.data.columns import ImageFile
from alignment_jax.data.open_image import open_image, reduce_on_decoding
from alignment_jax.data.record_fields import RecordField

# Formats without more: not even opened. Of videos and HEIC images eight bits are read.
_EIGHT_BITS = (
    *(".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".heic", ".heif"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"),
)
# Which byte of two Pillow takes; with the other letter it takes the other one.
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

_GRAY_ALPHA = "LA;16B"  # a gray PNG with transparency


def opener(item: ImageFile) -> Callable[[], Any]:
    """Opens a file as a PIL image each time it is called."""
    return lambda: open_image(item, where=str(item))


def is_deep(image: Any) -> bool:
    """Whether an opened PIL image, not loaded yet, has more than eight bits a channel."""
    return image.mode == "F" or image.mode.startswith("I") or _two_bytes(image)


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    return str(args if isinstance(args, str) else args[0] if args else "")


def _two_bytes(image: Any) -> bool:
    """Whether it is one of 16 bits a channel in colour, of which Pillow gives the upper eight."""
    tiles: Any = getattr(image, "tile", None)
    return bool(tiles and image.mode in ("RGB", "RGBA") and ";16" in _raw_mode(tiles[0]))


def deep_values(image: Any, open_again: Callable[[], Any], upright: Callable[[Any], Any]) -> np.ndarray | None:
    """The stored numbers [H, W] or [H, W, 3 or 4]; None where they have eight bits.

    Args:
      image: opened and not loaded yet.
      open_again: gives the same image once more.
      upright: what turns it by its EXIF tag.
    """
    if not is_deep(image):
        return None
    if not _two_bytes(image):
        return np.asarray(upright(image))
    if _raw_mode(image.tile[0]) == _GRAY_ALPHA:
        # Pillow has no mode that takes the other bytes, but four bytes of a pixel are one of RGBA, too.
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
    """The stored numbers of a file, transparency left out; None for eight bits, and for what cannot be read, which is
    named where images are decoded."""
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
    """Those of more than eight bits, found by their headers; each file once."""
    distinct = list({item if isinstance(item, pathlib.Path) else id(item): item for item in items}.values())
    # The records of a set are alike.
    if distinct and isinstance(distinct[0], RecordField):
        return distinct if _may_be_deep(distinct[0]) else []
    return [item for item in distinct if _may_be_deep(item)]


def _may_be_deep(item: ImageFile | np.ndarray) -> bool:
    if isinstance(item, np.ndarray) or str(item).lower().endswith(_EIGHT_BITS):
        return False
    try:
        with opener(item)() as image:  # its header alone is read
            return is_deep(image)
    except Exception:  # decoders raise almost anything; decoding the image names the problem
        return False
