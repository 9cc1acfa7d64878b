"""Decoding every file of a column once, to name those that cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.audio import AudioColumn
from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column


def faults(column: Column) -> Iterator[tuple[int, str]]:
    """`(index, message)` of every item whose file cannot be decoded to its end; nothing where this was checked before.

    Args:
      column: images, clips of frames or recordings; of anything else nothing has to be decoded.
    """
    if isinstance(column, ImageColumn | FrameColumn | AudioColumn) and column.verified:
        return
    if isinstance(column, ImageColumn):
        # One pixel: a JPEG is still decoded whole, but reduced on the way.
        yield from _unreadable(dataclasses.replace(column, shorter_side=1, cache=None))
    elif isinstance(column, AudioColumn):
        yield from _unreadable(column)
    elif isinstance(column, FrameColumn):
        frames = dataclasses.replace(column.frames, shorter_side=1, cache=None)
        for index in range(len(column)):
            for _, message in _unreadable(frames.take(np.array(column.numbers(index)))):
                yield index, message


def _unreadable(column: Column) -> Iterator[tuple[int, str]]:
    for index in range(len(column)):
        try:
            column.read(np.array([index]))
        except DataError as error:
            yield index, str(error)
