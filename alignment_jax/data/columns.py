"""Columns of a data set: arrays (in memory or memory-mapped), images (files or arrays), texts."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import pathlib
import threading
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.shards import ShardedArray
from alignment_jax.data.split import NOTHING
from alignment_jax.data.tars import FileSlice

ImageFile: TypeAlias = pathlib.Path | FileSlice | RecordField


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def file_identity(item: ImageFile, *, exact: bool) -> Hashable:
    """A key of the content of a file, of a part of an archive or of a record; see `Column.identity`."""
    if exact:
        return _digest(item.read_bytes())
    return item.stat().st_size if isinstance(item, pathlib.Path) else item.size


@dataclasses.dataclass(frozen=True)
class ArrayColumn:
    """Items that are rows of one array, in memory or memory-mapped.

    Attributes:
      array: [K, ...] in its stored dtype; `read` returns floats as float32.
      kind: kind of the items, see `Column`.
      name: name of the array in messages.
      rows: int64 [N], the row of each item; None for all rows in order.
      views: further arrays of the same shape; view v of an item is its row in `views[v - 1]`, view 0 its row in
        `array`.

    >>> column = ArrayColumn(np.eye(3, dtype=np.float16))
    >>> column.read(np.array([2, 0]))
    array([[0., 0., 1.], [1., 0., 0.]], dtype=float32)
    """

    array: np.ndarray | ShardedArray
    kind: str = "embedding"
    name: str = "array"
    rows: np.ndarray | None = None
    views: tuple[np.ndarray | ShardedArray, ...] = ()

    def __post_init__(self) -> None:
        for view in self.views:
            if view.shape != self.array.shape:
                raise DataError(f"{self.name}: a view has shape {list(view.shape)}, not {list(self.array.shape)}")

    def __len__(self) -> int:
        return len(self.array) if self.rows is None else len(self.rows)

    @property
    def num_views(self) -> int:
        return 1 + len(self.views)

    @property
    def mapped(self) -> bool:
        """Whether the items stay on disk, and may be too many to read at once."""
        return isinstance(self.array, ShardedArray)

    def view_counts(self, indices: np.ndarray) -> np.ndarray:
        """int [k], the number of views of each item."""
        return np.full(len(indices), self.num_views)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(indices) if self.rows is None else self.rows[indices]

    def read(self, indices: np.ndarray, view: np.ndarray | None = None) -> np.ndarray:
        rows = self._rows(indices)
        out = self.array[rows]
        if view is not None:
            for number, array in enumerate(self.views, start=1):
                chosen = view == number
                out[chosen] = array[rows[chosen]]
        return out.astype(np.float32) if np.issubdtype(out.dtype, np.floating) else out

    def take(self, indices: np.ndarray) -> ArrayColumn:
        return dataclasses.replace(self, rows=self._rows(np.asarray(indices, np.int64)))

    def further_views(self) -> tuple[ArrayColumn, ...]:
        """One column for each view but the first.

        >>> ArrayColumn(np.eye(2), views=(-np.eye(2),)).further_views()[0].read(np.array([0]))
        array([[-1., -0.]], dtype=float32)
        """
        return tuple(dataclasses.replace(self, array=view, views=()) for view in self.views)

    def describe(self, index: int) -> str:
        return f"{self.name}, row {int(self._rows(np.asarray(index)))}"

    def identity(self, index: int, *, exact: bool) -> Hashable:
        return _digest(np.ascontiguousarray(self.array[self._rows(np.asarray(index))]).data)

    def row_bytes(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [k, bytes of an item]: what `identity` is the digest of."""
        rows = np.ascontiguousarray(self.array[self._rows(indices)])
        return rows.reshape(len(rows), -1).view(np.uint8)


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """Texts. `origins`: file and row of each, for messages.

    >>> TextColumn(("a dog", "a cat")).read(np.array([1]))
    ['a cat']
    """

    texts: Sequence[str]
    origins: Sequence[str] | None = None
    kind: str = "text"

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, indices: np.ndarray) -> list[str]:
        return [self.texts[i] for i in np.asarray(indices).tolist()]

    def take(self, indices: np.ndarray) -> TextColumn:
        chosen = np.asarray(indices).tolist()
        origins = None if self.origins is None else tuple(self.origins[i] for i in chosen)
        return TextColumn(tuple(self.texts[i] for i in chosen), origins, self.kind)

    def describe(self, index: int) -> str:
        return f"text {index}" if self.origins is None else self.origins[index]

    def identity(self, index: int, *, exact: bool) -> Hashable:
        return self.texts[index]


class ImageCache:
    """Cache of decoded images with a limit in bytes, shared by the threads of a loader.

    Images beyond the limit are decoded at every read.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._images: dict[object, np.ndarray] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: object) -> np.ndarray | None:
        return self._images.get(key)

    def put(self, key: object, image: np.ndarray) -> None:
        with self._lock:
            if key not in self._images and self._bytes + image.nbytes <= self._limit:
                self._images[key] = image
                self._bytes += image.nbytes


@dataclasses.dataclass(frozen=True)
class ImageColumn:
    """Images: files (also inside archives), decoded at every read, or uint8 arrays in memory.

    Attributes:
      items: each a path, a part of an archive, or a uint8 array [H, W, 3]; None for a missing image, which is read as a
        black one.
      origins: manifest and row of each, for messages.
      shorter_side: images are downscaled to this shorter side on decoding; None for no downscaling.
      cache: for decoded images, or None.
      verified: every file has been decoded without an error.
      pixel_range: the values of images of more than eight bits that become black and white, one range for the whole
        data set (see `data.with_pixel_range`); None for a range per image.
    """

    items: Sequence[ImageFile | np.ndarray | None]
    origins: Sequence[str] | None = None
    shorter_side: int | None = None
    cache: ImageCache | None = None
    verified: bool = False
    kind: str = "image"
    pixel_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        # A tuple keeps its arrays alive, so that `id` is a valid cache key.
        object.__setattr__(self, "items", tuple(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def read(self, indices: np.ndarray) -> list[np.ndarray]:
        return [self._read(i) for i in np.asarray(indices).tolist()]

    def _read(self, index: int) -> np.ndarray:
        from alignment_jax.data.transforms import decode_image, shrink

        item = self.items[index]
        if item is None:
            return np.zeros((16, 16, 3), np.uint8)
        key: object = id(item) if isinstance(item, np.ndarray) else str(item)
        image = None if self.cache is None else self.cache.get(key)
        if image is None:
            if not isinstance(item, np.ndarray):
                image = decode_image(
                    item,
                    shorter_side=self.shorter_side,
                    where=self.describe(index),
                    pixel_range=self.pixel_range,
                )
            elif self.shorter_side is not None and min(item.shape[:2]) > self.shorter_side:
                image = shrink(item, self.shorter_side)
            else:
                return item
            if self.cache is not None:
                self.cache.put(key, image)
        return image

    def prepared(self, size: int, *, memory_limit: int = 1 << 30, factor: float = 1.5) -> ImageColumn:
        """Downscales the images for a target of `size` pixels and caches them up to a memory limit.

        Args:
          size: side in pixels of the output of the transforms.
          memory_limit: bytes of decoded images to cache; 0 for no cache.
          factor: the shorter side becomes `factor * size`, so that random crops keep enough resolution (a crop of area
            1 / factor^2 has exactly `size` pixels).

        Raises:
          ConfigError: factor below 1.
        """
        if factor < 1:
            raise ConfigError(f"factor must be at least 1, got {factor}")
        cache = ImageCache(memory_limit) if memory_limit > 0 else None
        return dataclasses.replace(self, shorter_side=math.ceil(factor * size), cache=cache)

    def take(self, indices: np.ndarray) -> ImageColumn:
        chosen = np.asarray(indices).tolist()
        origins = None if self.origins is None else tuple(self.origins[i] for i in chosen)
        return dataclasses.replace(self, items=tuple(self.items[i] for i in chosen), origins=origins)

    def describe(self, index: int) -> str:
        item = self.items[index]
        parts = [] if item is None or isinstance(item, np.ndarray) else [str(item)]
        parts += [] if self.origins is None else [self.origins[index]]
        return " from ".join(parts) or f"image {index}"

    def identity(self, index: int, *, exact: bool) -> Hashable:
        item = self.items[index]
        if item is None:
            return NOTHING
        if isinstance(item, np.ndarray):
            return _digest(np.ascontiguousarray(item).data)
        return file_identity(item, exact=exact)
