"""Opens image files of all formats without decoding; refuses images that are too large."""

from __future__ import annotations

import math
import os
import pathlib
import shlex
import threading
from typing import Any

from alignment_jax.core.errors import ConfigError, MissingPackageError, UnreadableFileError
from alignment_jax.core.optional import require
from alignment_jax.data.file_kinds import file_kind, head_of
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.tars import FileSlice
from alignment_jax.data.video import middle_frame

LIMIT = "ALIGNMENT_JAX_MAX_MEGAPIXELS"
_JPEG_STEPS = (1, 2, 4, 8)  # a JPEG can be decoded at one of these fractions of its size
# Decoding to this times the target, or more, leaves the final downscaling enough to average (PSNR to the whole image in
# benchmarks/results/input_cpu.md).
_MARGIN = 1.5
_pillow_limit = threading.Lock()


def open_image(item: pathlib.Path | FileSlice | RecordField, *, where: str) -> Any:
    """Opens a file as a PIL image without decoding its pixels; of a video, the middle frame.

    Args:
      item: the file.
      where: its name in messages.

    Raises:
      DataError: the package for a video or a HEIC image is missing.
      Exception: of PIL, if it is not an image.
    """
    module: Any = require("PIL.Image", extra="train", purpose="read and resize images")
    try:
        return module.open(_source(item))
    except module.DecompressionBombError:
        # Pillow's limit is global; `reduce_on_decoding` checks ours before decoding.
        with _pillow_limit:
            usual = module.MAX_IMAGE_PIXELS
            module.MAX_IMAGE_PIXELS = None
            try:
                return module.open(_source(item))
            finally:
                module.MAX_IMAGE_PIXELS = usual
    except module.UnidentifiedImageError:
        kind = file_kind(head_of(item))
        if kind is not None and kind.what == "video":
            with item.open("rb") if isinstance(item, pathlib.Path) else item.open() as file:
                return module.fromarray(middle_frame(file, kind, where=where, name=_name(item)))
        if kind is not None and "HEIC" in kind.name:
            return _heic(where, item).HeifImageFile(_source(item))
        raise


def _source(item: pathlib.Path | FileSlice | RecordField) -> Any:
    return item if isinstance(item, pathlib.Path) else item.open()


def _name(item: pathlib.Path | FileSlice | RecordField) -> str:
    return item.name if isinstance(item, FileSlice) else str(item)


def _heic(where: str, item: pathlib.Path | FileSlice | RecordField) -> Any:
    try:
        return require("pillow_heif", extra="heic", purpose="read HEIC images")
    except MissingPackageError as error:
        name = _name(item)
        jpeg = shlex.quote(str(pathlib.PurePath(name).with_suffix(".jpg")))
        raise UnreadableFileError(
            f"{where}: a HEIC image; convert it with heif-convert {shlex.quote(name)} {jpeg}, or install the reader: "
            "pip install 'alignment_jax[heic]'"
        ) from error


def reduce_on_decoding(image: Any, shorter_side: int | None, *, where: str) -> None:
    """Sets a JPEG to decode at a fraction of its size if that suffices, or if the full size exceeds the limit.

    Args:
      image: opened, not decoded.
      shorter_side: pixels needed, None for full size.
      where: its name in messages.

    Raises:
      DataError: it has more pixels than the limit.
    """
    most, size, step = max_megapixels() * 1e6, image.size, 1
    if shorter_side is not None:
        ratio = min(size) / max(1.0, min(min(size), _MARGIN * shorter_side))
        step = max(each for each in _JPEG_STEPS if each <= ratio)
    while size[0] * size[1] > most * step**2 and step < _JPEG_STEPS[-1]:
        step *= 2
    if step > 1:
        image.draft("RGB", tuple(max(1, side // step) for side in size))  # no effect for other formats
    if image.size[0] * image.size[1] > most:
        megapixels = math.ceil(size[0] * size[1] / 1e6)
        raise UnreadableFileError(
            f"{where}: {size[0]} x {size[1]} pixels exceed the limit of {max_megapixels():g} "
            f"megapixels: save it smaller or as JPEG, or set the environment variable {LIMIT}={megapixels}"
        )


def max_megapixels() -> float:
    """The largest image that is decoded.

    ALIGNMENT_JAX_MAX_MEGAPIXELS if it is set, else Pillow's limit: 179, or twice `Image.MAX_IMAGE_PIXELS`.

    Raises:
      ConfigError: the variable is not a positive number.
    """
    text = os.environ.get(LIMIT, "")
    if not text:
        module: Any = require("PIL.Image", extra="train", purpose="read and resize images")
        with _pillow_limit:
            pixels = module.MAX_IMAGE_PIXELS
        return math.inf if pixels is None else 2 * pixels / 1e6
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise ConfigError(f"{LIMIT} is {text!r}; it must be a positive number of megapixels")
    return found
