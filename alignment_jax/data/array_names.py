"""What the arrays of embeddings are called: by images and texts, or by a and b for other modalities."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from alignment_jax.core.errors import DataError

# (name, generic name) of each array.
GENERIC = {
    "image": "a",
    "text": "b",
    "text_to_image": "b_to_a",
    "image_id": "a_id",
    "caption": "b_text",
    "split": "split",
    "label": "label",
    "cluster_size": "b_cluster_size",
}
VIEW = re.compile(r"(?:image|a)_(flip|crop_[1-9]\d*)")


def with_own_names(arrays: Mapping[str, np.ndarray], *, where: str) -> dict[str, np.ndarray]:
    """The same arrays, every generic name replaced by that of images and texts; unknown names stay.

    Args:
      arrays: by either name.
      where: for messages.

    Raises:
      DataError: an array stands there under both names, or there is no image or no text.

    >>> sorted(with_own_names({"a": np.eye(2), "b": np.eye(2), "a_flip": np.eye(2)}, where="e.npz"))
    ['image', 'image_flip', 'text']
    """
    own = {generic: name for name, generic in GENERIC.items()}
    named: dict[str, np.ndarray] = {}
    for given, array in arrays.items():
        view = VIEW.fullmatch(given)
        name = f"image_{view[1]}" if view else own.get(given, given)
        if name in named:
            generic = f"a_{view[1]}" if view else GENERIC[name]
            raise DataError(f"{where}: has both {name!r} and {generic!r}; keep one")
        named[name] = array
    for name in ("image", "text"):
        if name not in named:
            raise DataError(
                f"{where}: no array {name!r} (or {GENERIC[name]!r}); it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
    return named
