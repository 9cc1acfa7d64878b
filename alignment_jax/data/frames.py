"""Clips as folders of frames, of which one frame is used at a time."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.columns import ImageColumn

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def frame_files(folder: pathlib.Path, *, where: str) -> tuple[pathlib.Path, ...]:
    """The frames of a folder, sorted by name.

    Raises:
      DataError: there are none.
    """
    found = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES))
    if not found:
        raise DataError(f"{where}: no frames (*.jpg, *.png) in {folder}")
    return found


@dataclasses.dataclass(frozen=True)
class FrameColumn:
    """Clips; an item is one frame: the middle one, or a random one in training.

    Attributes:
      frames: the frames of all clips, one clip after the other.
      first, count: int64 [N], number of the first frame of each clip and number of its frames.

    >>> frames = ImageColumn([np.full((2, 2, 3), i, np.uint8) for i in range(5)])
    >>> column = FrameColumn(frames, first=np.array([0, 3]), count=np.array([3, 2]))
    >>> [int(image[0, 0, 0]) for image in column.read(np.array([0, 1]))]
    [1, 4]
    >>> [int(image[0, 0, 0]) for image in column.read(np.array([0, 1]), np.array([2, 0]))]
    [2, 3]
    """

    frames: ImageColumn
    first: np.ndarray
    count: np.ndarray
    kind: str = "image"

    @classmethod
    def of(
        cls, clips: Sequence[Sequence[pathlib.Path]], origins: Sequence[str], *, verified: bool = False
    ) -> FrameColumn:
        """Makes a column from the frames of each clip."""
        count = np.array([len(clip) for clip in clips], np.int64)
        where = [origin for clip, origin in zip(clips, origins, strict=True) for _ in clip]
        frames = ImageColumn([path for clip in clips for path in clip], where, verified=verified)
        return cls(frames, np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)[: len(count)], count)

    @property
    def verified(self) -> bool:
        return self.frames.verified

    def __len__(self) -> int:
        return len(self.first)

    def view_counts(self, indices: np.ndarray) -> np.ndarray:
        """int [k], the number of frames of each."""
        return self.count[indices]

    def read(self, indices: np.ndarray, view: np.ndarray | None = None) -> list[np.ndarray]:
        indices = np.asarray(indices)
        return self.frames.read(self.first[indices] + (self.count[indices] // 2 if view is None else view))

    def take(self, indices: np.ndarray) -> FrameColumn:
        chosen = np.asarray(indices, np.int64)
        return dataclasses.replace(self, first=self.first[chosen], count=self.count[chosen])

    def prepared(self, size: int, **options: Any) -> FrameColumn:
        """Downscales and caches the frames, see `ImageColumn.prepared`."""
        return dataclasses.replace(self, frames=self.frames.prepared(size, **options))

    def numbers(self, index: int) -> range:
        """The numbers of an item's frames in `frames`."""
        return range(int(self.first[index]), int(self.first[index] + self.count[index]))

    def describe(self, index: int) -> str:
        return self.frames.describe(int(self.first[index] + self.count[index] // 2))

    def identity(self, index: int, *, exact: bool) -> Hashable:
        return tuple(self.frames.identity(number, exact=exact) for number in self.numbers(index))
