"""Small pictures of a split's items, for pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column, PairSplit

# Sharp enough for a page, and small enough to mail it.
SIDE = 128


def thumbnails(split: PairSplit, *, side: int = SIDE) -> Callable[[Sequence[int]], dict[int, np.ndarray]] | None:
    """Reads the a-items of a split as small images; None where they are no images.

    Args:
      split: N a-items.
      side: pixels of the shorter side, of images that are larger.

    Returns:
      item numbers -> {number: uint8 [H, W, 3]}; nothing is read before it is called.

    >>> import alignment_jax as aj
    >>> read = thumbnails(aj.data.load("synthetic:train=4,val=2,test=2,size=16").splits["train"])
    >>> read([3])[3].shape
    (16, 16, 3)
    """
    return small_images(split.a, side=side)


def small_images(column: Column, *, side: int = SIDE) -> Callable[[Sequence[int]], dict[int, np.ndarray]] | None:
    """The same for any column: images, or clips by their middle frame."""
    if not isinstance(column, ImageColumn | FrameColumn):
        return None
    small = column.prepared(side, memory_limit=0, factor=1.0)
    return lambda items: dict(zip(items, small.read(np.asarray(items, np.int64)), strict=True))
