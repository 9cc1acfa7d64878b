"""Decoding and augmentation of images: uint8 [H, W, 3] and a random generator -> uint8.

Images are scaled to floats on the device, because a uint8 batch needs a quarter of the transfer.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from alignment_jax.core.errors import ConfigError, UnreadableFileError, UserError
from alignment_jax.core.optional import require
from alignment_jax.data.deep_images import deep_values
from alignment_jax.data.file_kinds import file_kind, head_of, unreadable
from alignment_jax.data.open_image import open_image, reduce_on_decoding
from alignment_jax.data.pixel_range import to_eight_bits
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.tars import FileSlice

# (item, generator) -> array of a fixed shape, for each item that a loader reads.
Transform: TypeAlias = Callable[[Any, np.random.Generator], np.ndarray]


def _pil() -> Any:
    return require("PIL.Image", extra="train", purpose="read and resize images")


def decode_image(
    path: pathlib.Path | FileSlice | RecordField,
    *,
    shorter_side: int | None = None,
    where: str | None = None,
    pixel_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decodes an image file: first frame, rotated by its EXIF tag, transparency on white, three 8-bit channels.

    Of a video file, the middle frame.

    Args:
      path: the file, also inside an archive.
      shorter_side: downscale to this shorter side (JPEG decoding is then several times faster); None for full size.
      where: name of the file in messages; default the path.
      pixel_range: the values of an image of more than eight bits that become black and white (see
        `data.with_pixel_range`); None for the range of this image.

    Returns:
      uint8 [H, W, 3].

    Raises:
      DataError: the file cannot be read, is not a complete image, or has too many pixels (see `reduce_on_decoding`).
    """
    exif_transpose = require("PIL.ImageOps", extra="train", purpose="read images").exif_transpose
    where = where or str(path)

    def open_again() -> Any:
        return open_image(path, where=where)

    def upright(image: Any) -> Any:
        turned = exif_transpose(image)
        return turned if turned is not None else image

    try:
        with open_again() as image:
            reduce_on_decoding(image, shorter_side, where=where)
            deep = deep_values(image, open_again, upright)
            image.load()
            array = np.asarray(_rgb(upright(image)) if deep is None else _deep_rgb(deep, pixel_range))
    except UserError:
        raise
    # Decoders raise many kinds of errors for damaged files (OSError, SyntaxError, ValueError, struct.error, ...).
    except Exception as error:
        reason = unreadable(error, file_kind(head_of(path)), wanted="image")
        raise UnreadableFileError(f"{where}: not a readable image ({reason})") from error
    return array if shorter_side is None else shrink(array, shorter_side)


def _deep_rgb(values: np.ndarray, pixel_range: tuple[float, float] | None) -> Any:
    pixels = to_eight_bits(values[..., :3] if values.ndim == 3 else values, pixel_range)
    if values.shape[2:] == (4,):  # alpha keeps its own range
        pixels = np.dstack([pixels, (values[..., 3] >> 8).astype(np.uint8)])
    return _rgb(_pil().fromarray(pixels))


def _rgb(image: Any) -> Any:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = _pil().new("RGBA", image.size, (255, 255, 255, 255))
        image = _pil().alpha_composite(white, image)
    return image.convert("RGB")


def _resize(image: np.ndarray, width: int, height: int, box: tuple[float, float, float, float]) -> np.ndarray:
    module = _pil()
    return np.asarray(module.fromarray(image).resize((width, height), module.Resampling.BILINEAR, box=box))


def shrink(image: np.ndarray, shorter_side: int) -> np.ndarray:
    """Downscales an image to a shorter side of `shorter_side` pixels; smaller images are unchanged.

    >>> shrink(np.zeros((40, 60, 3), np.uint8), 20).shape
    (20, 30, 3)
    """
    height, width = image.shape[:2]
    scale = shorter_side / min(height, width)
    if scale >= 1:
        return image
    return _resize(image, max(1, round(width * scale)), max(1, round(height * scale)), (0, 0, width, height))


def center_crop(image: np.ndarray, *, size: int) -> np.ndarray:
    """The largest centred square, resized to `size`, for evaluation.

    >>> center_crop(np.zeros((40, 60, 3), np.uint8), size=32).shape
    (32, 32, 3)
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return _resize(image, size, size, (left, top, left + side, top + side))


def random_resized_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """A random part of the image, resized to a square.

    The share of the area is uniform in `scale`, the log aspect ratio uniform in log `ratio`, the position uniform. A
    crop that does not fit is clipped to the image (the usual recipe draws up to ten times, so its number of draws
    depends on the image).

    >>> random_resized_crop(np.zeros((40, 60, 3), np.uint8), np.random.default_rng(0), size=32).shape
    (32, 32, 3)
    """
    height, width = image.shape[:2]
    share, log_ratio, x, y = rng.random(4)
    area = height * width * (scale[0] + share * (scale[1] - scale[0]))
    aspect = math.exp(math.log(ratio[0]) + log_ratio * math.log(ratio[1] / ratio[0]))
    w, h = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
    left, top = x * (width - w), y * (height - h)
    # Rounding must not push the box over the edge.
    return _resize(image, size, size, (left, top, min(left + w, width), min(top + h, height)))


def random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with probability one half."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def train_image(size: int, *, scale: tuple[float, float] = (0.5, 1.0), flip: bool = True) -> Transform:
    """The training transform: random resized crop, then a random flip.

    Args:
      size: side of the square result, pixels.
      scale: smallest and largest share of the image's area; (1, 1) keeps a square image whole.
      flip: flip horizontally with probability 1/2; turn it off for captions with left and right.

    Raises:
      ConfigError: size below 1, or scale not 0 < low <= high <= 1.

    >>> train_image(8)(np.zeros((9, 9, 3), np.uint8), np.random.default_rng(0)).shape
    (8, 8, 3)
    """
    _check_size(size)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ConfigError(f"scale must be 0 < low <= high <= 1, got {scale}")

    def transform(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = random_resized_crop(image, rng, size=size, scale=scale)
        return random_flip(image, rng) if flip else image

    return transform


def eval_image(size: int) -> Transform:
    """The evaluation transform: the centred square; the generator is not used.

    >>> eval_image(8)(np.zeros((9, 9, 3), np.uint8), np.random.default_rng(0)).shape
    (8, 8, 3)
    """
    _check_size(size)
    return lambda image, rng: center_crop(image, size=size)


def _check_size(size: int) -> None:
    if size < 1:
        raise ConfigError(f"image size must be at least 1, got {size}")
