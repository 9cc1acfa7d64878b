"""Maps images of more than eight bits to eight bits: which value becomes black and which white.

A range `(low, high)` is divided into 256 equal steps: `low` becomes 0, `high` and all above become 255. Images of eight
bits have no range and are unchanged.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.columns import ImageColumn
from alignment_jax.data.deep_images import deep_items, read_deep
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.split import Column, PairSource

Range: TypeAlias = tuple[float, float]
RULES = ("auto", "percentiles")
BITS = (8, 10, 12, 14, 16)
PERCENTILES = (0.5, 99.5)
_SAMPLED = 1 << 22  # pixels of all images together for the percentiles


def parse_pixel_range(text: str) -> Range | None:
    """The numbers of `input.pixel_range`; None for "auto" and "percentiles", which are measured.

    A run stores the measured range after the rule, as in "auto:0,4096".

    Raises:
      ConfigError: neither a rule nor two increasing numbers.

    >>> parse_pixel_range("0,4096"), parse_pixel_range("auto")
    ((0.0, 4096.0), None)
    """
    if text in RULES:
        return None
    rule, colon, numbers = text.rpartition(":")
    try:
        low, high = (float(part) for part in (numbers if colon and rule in RULES else text).split(","))
        if -np.inf < low < high < np.inf:
            return low, high
    except ValueError:
        pass
    raise ConfigError(
        f"input.pixel_range is {text!r}; it must be auto, percentiles or two numbers LOW,HIGH as in 0,4096 (the values "
        "that become black and white)"
    )


def format_pixel_range(found: Range) -> str:
    """The range in the format of `parse_pixel_range`.

    >>> format_pixel_range((0.0, 4096.0)), format_pixel_range((-0.5, 1.0))
    ('0,4096', '-0.5,1')
    """
    return ",".join(str(int(number)) if number == int(number) else repr(float(number)) for number in found)


def chosen_range(low: float, high: float, *, whole: bool) -> Range:
    """The range of `input.pixel_range=auto`, from the smallest and the largest pixel.

    Integers: 0 to 2^b for the smallest b of 8, 10, 12, 14 and 16 that holds the largest value; `low` to `high` for
    negative or larger values. Floats: 0 to 1 or 0 to 256 if all are in [0, 1] or [0, 255], else `low` to `high`.

    >>> chosen_range(3, 3200, whole=True), chosen_range(-1024, 3071, whole=True), chosen_range(0.1, 0.9, whole=False)
    ((0.0, 4096.0), (-1024.0, 3071.0), (0.0, 1.0))
    """
    if whole:
        bits = next((bits for bits in BITS if low >= 0 and high < 2**bits), None)
        if bits is not None:
            return 0.0, float(2**bits)
    elif low >= 0 and high <= 255:
        return (0.0, 1.0) if high <= 1 else (0.0, 256.0)
    return float(low), float(high) if high > low else float(low) + 1


def to_eight_bits(values: np.ndarray, found: Range | None = None) -> np.ndarray:
    """Maps pixels to uint8 of the same shape; NaN becomes 0.

    Args:
      values: integers or floats.
      found: the range; None for the range of these pixels.

    >>> to_eight_bits(np.array([0, 16, 3200, 4095]), (0, 4096)).tolist()
    [0, 1, 200, 255]
    """
    if found is None:
        finite = _finite(values)
        if not finite.size:
            return np.zeros(values.shape, np.uint8)
        found = chosen_range(finite.min(), finite.max(), whole=values.dtype.kind in "iu")
    low, high = found
    steps = (np.asarray(values, np.float64) - low) * (256 / (high - low))
    return np.nan_to_num(steps, nan=0.0).clip(0, 255).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class PixelValues:
    """Measured on images of more than eight bits: smallest and largest pixel, and the range of each rule."""

    low: float
    high: float
    auto: Range
    percentiles: Range

    def of(self, setting: str) -> Range:
        """The range of "auto" or "percentiles"."""
        return self.percentiles if setting == "percentiles" else self.auto


def pixel_values(columns: Sequence[ImageColumn], *, where: str = "the images") -> PixelValues | None:
    """Reads every image of more than eight bits once; None if there are none.

    Args:
      columns: of the training set.
      where: name of the data in messages.

    Raises:
      DataError: some hold integers and some floats, which have no common range.
    """
    items = [item for column in columns for item in deep_items(tuple(x for x in column.items if x is not None))]
    if not items:
        return None
    count = max(64, _SAMPLED // len(items))
    low, high, kinds, samples = np.inf, -np.inf, dict[bool, str](), list[np.ndarray]()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for item, found in zip(items, pool.map(lambda item: _summary(item, count), items), strict=True):
            if found is not None:
                least, most, whole, sample = found
                low, high = min(low, least), max(high, most)
                kinds.setdefault(whole, str(item))
                samples.append(sample)
    if not samples:
        return None
    if len(kinds) > 1:
        raise DataError(
            f"{where}: {kinds[True]} holds integers and {kinds[False]} floats, which have no common range; save "
            "all in one format, or train with --config.input.pixel_range=LOW,HIGH"
        )
    first, last = np.percentile(np.concatenate(samples), PERCENTILES).tolist()
    return PixelValues(
        low, high, chosen_range(low, high, whole=True in kinds), (first, last if last > first else first + 1)
    )


def _summary(item: Any, count: int) -> tuple[float, float, bool, np.ndarray] | None:
    """(smallest, largest, whether integers, evenly spaced pixels) of one image."""
    values = read_deep(item)
    finite = np.zeros(0) if values is None else _finite(values).ravel()
    if values is None or not finite.size:
        return None
    sample = finite[:: max(1, finite.size // count)].astype(np.float64)
    return float(finite.min()), float(finite.max()), values.dtype.kind in "iu", sample


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def in_range(column: Column, setting: str) -> Column:
    """Sets the range of `input.pixel_range` for a column of images that has none.

    Measured on the column itself if the setting has no numbers, as for data that is not of the run.
    """
    images = _images(column)
    if images is None or images.pixel_range is not None:
        return column
    found = parse_pixel_range(setting)
    if found is None:
        measured = pixel_values([images])
        found = None if measured is None else measured.of(setting)
    return _ranged(column, found)


def _images(column: Column | None) -> ImageColumn | None:
    """The images of a column, or the frames of its clips; None if it has none."""
    if isinstance(column, FrameColumn):
        return column.frames
    return column if isinstance(column, ImageColumn) else None


def _ranged(column: Column, found: Range | None) -> Column:
    if isinstance(column, FrameColumn):
        return dataclasses.replace(column, frames=_ranged(column.frames, found))  # type: ignore[arg-type]
    if not isinstance(column, ImageColumn) or column.pixel_range is not None or found is None:
        return column
    return dataclasses.replace(column, pixel_range=found, cache=None)


def describe_pixels(source: PairSource) -> dict[str, dict[str, dict[str, Any]]]:
    """Split -> side -> `pixels` (smallest, largest) and `pixel_range` ("auto", measured on train) of the images of more
    than eight bits; sides without such images are omitted."""
    ranged, measured = with_pixel_range(source)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    if measured is None:
        return found
    for name, split in ranged.splits.items():
        found[name] = {}
        for side in "abc":
            images = _images(getattr(split, side))
            values = None if images is None else pixel_values([images], where=source.spec)
            if values is not None:
                pixels = {"min": values.low, "max": values.high}
                found[name][side] = {"pixels": pixels, "pixel_range": format_pixel_range(measured.auto)}
    return found


def with_pixel_range(source: PairSource, setting: str = "auto") -> tuple[PairSource, PixelValues | None]:
    """Sets one range for the images of all splits; returns the source and the measurement.

    Args:
      source: any data set; images of eight bits are not read.
      setting: `input.pixel_range`: "auto" (`chosen_range`), "percentiles" (0.5 % of the pixels are black, 0.5 % white)
        or "LOW,HIGH". The first two are measured on train, or on the first split without train.

    Raises:
      ConfigError, DataError: see `parse_pixel_range` and `pixel_values`.
    """
    found, measured = parse_pixel_range(setting), None
    if found is None:
        split = source.splits.get("train") or next(iter(source.splits.values()))
        columns = [images for images in map(_images, (split.a, split.b, split.c)) if images is not None]
        measured = pixel_values(columns, where=source.spec)
        if measured is None:
            return source, None
        found = measured.of(setting)
    splits = {
        name: split.replace(**{s: _ranged(c, found) for s in "abc" if _images(c := getattr(split, s)) is not None})
        for name, split in source.splits.items()
    }
    return dataclasses.replace(source, splits=splits), measured
