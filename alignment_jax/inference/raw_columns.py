"""Columns of pictures and texts that a program passes: paths, arrays, strings."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError, UserError
from alignment_jax.data.columns import ImageColumn, TextColumn
from alignment_jax.data.pixel_range import Range, to_eight_bits


def image_column(images: Sequence[Any], *, pixel_range: Range | None = None) -> ImageColumn:
    """A column of pictures.

    Args:
      images: each a path, or an array [H, W], [H, W, 1] or [H, W, 3]: uint8, or numbers of more bits.
      pixel_range: the values of pictures of more than eight bits that become black and white; None: by each picture.

    Raises:
      UserError: one picture in place of a list.
      DataError: an array of another shape or dtype; the message has its number.

    >>> image_column([np.zeros((4, 6))]).items[0].shape
    (4, 6, 3)
    """
    if isinstance(images, str | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim < 4):
        raise UserError("images: one picture was given; put it into a list, as in [picture]")
    items = tuple(_item(image, number, pixel_range) for number, image in enumerate(images))
    return ImageColumn(items, pixel_range=pixel_range)


def _item(image: Any, number: int, pixel_range: Range | None) -> pathlib.Path | np.ndarray:
    if isinstance(image, str | os.PathLike):
        path = pathlib.Path(image).expanduser()
        if not path.is_file():
            raise DataError(f"images[{number}]: no such file: {path}")
        return path
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype.kind not in "uif" or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or not array.size:
        raise DataError(
            f"images[{number}]: give a path or an array [H, W] or [H, W, 3] of numbers, got {array.dtype} "
            f"{list(array.shape)}"
        )
    if array.dtype != np.uint8:
        array = to_eight_bits(array, pixel_range)
    return np.ascontiguousarray(array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2))


def text_column(texts: Sequence[str]) -> TextColumn:
    """A column of texts.

    Raises:
      UserError: one text in place of a list, or an entry is no text.

    >>> len(text_column(["a dog", "a cat"]))
    2
    """
    if isinstance(texts, str):
        raise UserError("texts: one text was given; put it into a list, as in [text]")
    found = tuple(texts)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"texts[{number}]: give a string, got {type(text).__name__}")
    return TextColumn(tuple(str(text) for text in found))
