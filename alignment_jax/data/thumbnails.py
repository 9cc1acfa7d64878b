"""Small pictures of a split's items, for pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.split import PairSplit

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
    if not isinstance(split.a, ImageColumn):
        return None
    column = split.a.prepared(side, memory_limit=0, factor=1.0)
    return lambda items: dict(zip(items, column.read(np.asarray(items, np.int64)), strict=True))
