"""Builders for TensorFlow Datasets: write a folder of data as array_record files for `tfds:`.

    from alignment_jax.data import builders
    builders.prepare("aligned_flickr8k", manual_dir="Flickr8k", data_dir="prepared")

TensorFlow is not needed. Each builder is a module with one builder class, as `tfds build` expects.
"""

from __future__ import annotations

import importlib
import pathlib

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.optional import require

BUILDERS = {
    "aligned_flickr8k": ("flickr8k", "AlignedFlickr8k"),
    "aligned_audio_images": ("audio_images", "AlignedAudioImages"),
}


def prepare(name: str, *, manual_dir: str | pathlib.Path, data_dir: str | pathlib.Path) -> None:
    """Writes a data set as array_record files.

    Args:
      name: one of `BUILDERS`.
      manual_dir: the folder of the images and captions, or of the manifest.
      data_dir: output folder, for `tfds:NAME,data_dir=...`.

    Raises:
      ConfigError: no such builder.
      DataError: the folder is missing, or its data is unusable; the message names file and row.
    """
    if name not in BUILDERS:
        raise ConfigError(f"no builder {name!r}; known: {', '.join(BUILDERS)}")
    if not pathlib.Path(manual_dir).is_dir():
        raise DataError(f"{manual_dir}: no such folder")
    tfds = require("tensorflow_datasets", extra="tfds", purpose="prepare data sets")
    module, kind = BUILDERS[name]
    make = getattr(importlib.import_module(f"alignment_jax.data.builders.{module}"), kind)
    builder = make(data_dir=str(data_dir), file_format="array_record")
    settings = tfds.download.DownloadConfig(manual_dir=str(pathlib.Path(manual_dir).absolute()))
    builder.download_and_prepare(download_config=settings)
