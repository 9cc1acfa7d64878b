"""Fixed augmented views of an image: encoded once, and sampled in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alignment_jax.core.errors import ConfigError

# Share of each side that a crop keeps; the four crops are at the corners.
_SIDE = 0.8


def _corner(right: int, bottom: int) -> Callable[[np.ndarray], np.ndarray]:
    def crop(image: np.ndarray) -> np.ndarray:
        height, width = (max(1, round(_SIDE * side)) for side in image.shape[:2])
        top, left = bottom * (image.shape[0] - height), right * (image.shape[1] - width)
        return image[top : top + height, left : left + width]

    return crop


_VIEWS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "flip": {"image_flip": lambda image: image[:, ::-1]},
    "crops": {f"image_crop_{k + 1}": _corner(k % 2, k // 2) for k in range(4)},
}


def view_names(views: str) -> tuple[str, ...]:
    """The names of the arrays of the views.

    Args:
      views: "", "flip", "crops" or "flip,crops"; "crops" are four crops of 80 % of each side, one at each corner.

    Raises:
      ConfigError: unknown view.

    >>> view_names("flip,crops")
    ('image_flip', 'image_crop_1', 'image_crop_2', 'image_crop_3', 'image_crop_4')
    """
    names: list[str] = []
    for word in filter(None, (part.strip() for part in views.split(","))):
        if word not in _VIEWS:
            raise ConfigError(f"--views is {views!r}; it must be a comma-separated list of {', '.join(_VIEWS)}")
        names += [name for name in _VIEWS[word] if name not in names]
    return tuple(names)


def make_views(image: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The views of an image, by name.

    >>> make_views(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), ("image_flip",))["image_flip"].ravel().tolist()
    [3, 4, 5, 0, 1, 2]
    """
    known = {name: make for views in _VIEWS.values() for name, make in views.items()}
    return {name: np.ascontiguousarray(known[name](image)) for name in names}
