"""Thumbnails of the items of a split, for pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column, PairSplit

# Sharp enough on a page, and the page stays small enough to mail.
SIDE = 128


def thumbnails(split: PairSplit, *, side: int = SIDE) -> Callable[[Sequence[int]], dict[int, np.ndarray]] | None:
    """A function that reads a-items as thumbnails; None if they are not images.

    Args:
      split: N a-items.
      side: shorter side in pixels of larger images.

    Returns:
      item numbers -> {number: uint8 [H, W, 3]}.

    >>> import alignment_jax as aj
    >>> read = thumbnails(aj.data.load("synthetic:train=4,val=2,test=2,size=16").splits["train"])
    >>> read([3])[3].shape
    (16, 16, 3)
    """
    return small_images(split.a, side=side)


def small_images(column: Column, *, side: int = SIDE) -> Callable[[Sequence[int]], dict[int, np.ndarray]] | None:
    """`thumbnails` for any column: images, or clips by their middle frame."""
    if not isinstance(column, ImageColumn | FrameColumn):
        return None
    small = column.prepared(side, memory_limit=0, factor=1.0)
    return lambda items: dict(zip(items, small.read(np.asarray(items, np.int64)), strict=True))
