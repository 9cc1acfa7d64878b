"""Images to the batches that a checkpoint was trained on, by its preprocessor_config.json."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core import Array
from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.optional import require
from alignment_jax.models.pretrained.pooling import read_json

FILE = "preprocessor_config.json"
_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
_HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
_BICUBIC, _BILINEAR = 3, 2
_FLAGS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}


def _processor(resample: int, statistics: tuple[list[float], list[float]], *, crop: bool) -> dict[str, Any]:
    return {
        **_FLAGS,
        "resample": resample,
        "image_mean": statistics[0],
        "image_std": statistics[1],
        "do_center_crop": crop,
        "size": {"shortest_edge": 224} if crop else {"height": 224, "width": 224},
        "crop_size": {"height": 224, "width": 224} if crop else None,
    }


# Values that a file may leave out, by the processor that it names.
PROCESSORS = {
    "CLIP": _processor(_BICUBIC, _CLIP, crop=True),
    "Bit": _processor(_BICUBIC, _CLIP, crop=True),
    "Siglip": _processor(_BICUBIC, _HALF, crop=False),
    "ViT": _processor(_BILINEAR, _HALF, crop=False),
}
_SUFFIXES = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")


@dataclasses.dataclass(frozen=True)
class ImagePreprocess:
    """Resizes, crops and normalises images as the checkpoint's own processor does.

    Attributes:
      resize: (height, width), or one number for the shorter side, or None.
      resample: Pillow's number of the filter; all of them are antialiased when shrinking.
      crop: (height, width) of the centre, or None; smaller images get black borders.
      scale: factor of the pixels before mean and deviation.
      mean, std: of each channel; zeros and ones for no normalisation.

    >>> preprocess = ImagePreprocess(resize=32, crop=(28, 28))
    >>> preprocess([np.zeros((40, 60, 3), np.uint8), np.zeros((50, 30), np.uint8)]).shape
    (2, 28, 28, 3)
    """

    resize: tuple[int, int] | int | None = (224, 224)
    resample: int = _BICUBIC
    crop: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __call__(self, images: Sequence[Any]) -> np.ndarray:
        """Makes a batch: `normalize(pixels(images))`.

        Args:
          images: one or more PIL images, or uint8 arrays [height, width], [height, width, 1], [..., 3] or [..., 4], of
            any sizes. Transparent parts become white.

        Returns:
          [n, height, width, 3] float32.

        Raises:
          ValueError: no image, an array of another type or shape, or images that are left at different sizes.
          MissingPackageError: Pillow is not installed.
        """
        return np.asarray(self.normalize(self.pixels(images)))

    def pixels(self, images: Sequence[Any]) -> np.ndarray:
        """Resized and cropped images, uint8 [n, height, width, 3]: a quarter of the memory of `normalize`'s result."""
        made = [self._one(image) for image in images]
        if len({one.shape for one in made}) > 1:
            raise ValueError(
                f"images must get one size, got {sorted({one.shape[:2] for one in made})}; encode each alone"
            )
        return np.stack(made)

    def normalize(self, pixels: Array) -> Any:
        """(scale * pixels - mean) / std in float32; NumPy arrays stay on the host, JAX arrays on their device."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (pixels.astype(np.float32) * np.float32(self.scale) - mean) / std

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every image, None where it depends on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def at_size(self, size: int) -> ImagePreprocess:
        """The same preprocessing with another size of its square images, in the same proportions.

        >>> ImagePreprocess(resize=256, crop=(224, 224)).at_size(112)
        ImagePreprocess(resize=128, resample=3, crop=(112, 112), ...)
        """
        before = self.size
        if before is None or self.resize is None:
            raise ConfigError("image_size cannot change the size of a checkpoint that leaves images at their own")
        resize = round(self.resize * size / before[0]) if isinstance(self.resize, int) else (size, size)
        return dataclasses.replace(self, resize=resize, crop=None if self.crop is None else (size, size))

    def _one(self, image: Any) -> np.ndarray:
        library: Any = require("PIL.Image", extra="pretrained", purpose="resize images")
        image = _rgb(image, library)
        if self.resize is not None:
            width, height = image.size
            new = _target((height, width), self.resize)
            image = image.resize(new[::-1], resample=self.resample)
        pixels = np.asarray(image)
        return pixels if self.crop is None else _center(pixels, self.crop)


def _rgb(image: Any, library: Any) -> Any:
    if not isinstance(image, library.Image):
        array = np.asarray(image)
        array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))):
            raise ValueError(f"an image must be uint8 [height, width, 3], got {array.dtype} {array.shape}")
        image = library.fromarray(array)
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = library.alpha_composite(library.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")


def _target(size: tuple[int, int], wanted: tuple[int, int] | int) -> tuple[int, int]:
    """The (height, width) of an image after resizing; the longer side is rounded down."""
    if not isinstance(wanted, int):
        return wanted
    height, width = size
    if width <= height:
        return int(wanted * height / width), wanted
    return wanted, int(wanted * width / height)


def _center(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    short = [max(wanted - have, 0) for have, wanted in zip(pixels.shape[:2], size, strict=True)]
    if any(short):
        pixels = np.pad(pixels, [*((-(-gap // 2), gap // 2) for gap in short), (0, 0)])
    top, left = ((have - wanted) // 2 for have, wanted in zip(pixels.shape[:2], size, strict=True))
    return pixels[top : top + size[0], left : left + size[1]]


def read_image_preprocess(folder: pathlib.Path) -> ImagePreprocess:
    """The preprocessing that a folder's `preprocessor_config.json` (or `processor_config.json`) describes.

    Raises:
      ConfigError: neither file is there, or it describes another kind of preprocessing; the message names the key.
    """
    file, settings = _settings(folder)
    named = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    kind = next((named.removesuffix(suffix) for suffix in _SUFFIXES if named.endswith(suffix)), named)
    if kind not in PROCESSORS:
        raise ConfigError(f"{file}: no image_processor_type {named!r}{suggest(kind, PROCESSORS)}")
    values = {**PROCESSORS[kind], **{key: value for key, value in settings.items() if value is not None}}
    mean, std = values["image_mean"], values["image_std"]
    square = kind in ("Siglip", "ViT")
    normalized = values["do_normalize"]
    return ImagePreprocess(
        resize=_size(values["size"], file, "size", square=square) if values["do_resize"] else None,
        resample=int(values["resample"]),
        crop=_crop(values["crop_size"], file) if values["do_center_crop"] else None,
        scale=float(values["rescale_factor"]) if values["do_rescale"] else 1.0,
        mean=_channels(mean) if normalized else (0.0,) * 3,
        std=_channels(std) if normalized else (1.0,) * 3,
    )


def _settings(folder: pathlib.Path) -> tuple[pathlib.Path, Mapping[str, Any]]:
    file, both = folder / FILE, folder / "processor_config.json"
    if not file.is_file() and both.is_file():
        settings = read_json(both)
        if isinstance(settings.get("image_processor"), dict):
            return both, settings["image_processor"]
    return file, read_json(file)


def _channels(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values)) if isinstance(values, (list, tuple)) else (float(values),) * 3


def _size(value: Any, file: pathlib.Path, key: str, *, square: bool) -> tuple[int, int] | int:
    if isinstance(value, int):
        return (value, value) if square else value
    value = {} if not isinstance(value, dict) else {name: one for name, one in value.items() if one is not None}
    if value.keys() == {"height", "width"}:
        return int(value["height"]), int(value["width"])
    if value.keys() == {"shortest_edge"}:
        return int(value["shortest_edge"])
    raise ConfigError(f"{file}: {key} must be height and width, or shortest_edge, got {value}")


def _crop(value: Any, file: pathlib.Path) -> tuple[int, int]:
    size = _size(value, file, "crop_size", square=True)
    if isinstance(size, int):
        return size, size
    return size
