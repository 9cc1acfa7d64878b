"""TFDS builder for recordings with images and classes; the folder holds a `manifest.csv` as for `av:FILE.csv`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from alignment_jax.core.optional import require
from alignment_jax.data.spec import load
from alignment_jax.data.split import PairSource, PairSplit

tfds: Any = require("tensorflow_datasets", extra="tfds", purpose="prepare data sets")


class AlignedAudioImages(tfds.core.GeneratorBasedBuilder):
    """Features: id, audio (int16 waveform, one channel), rate (Hz), image (encoded bytes), label (class name)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - TFDS reads it as a class attribute
    MANUAL_DOWNLOAD_INSTRUCTIONS = "A folder with manifest.csv (audio, image, label[, split]) and the files it names."

    def _info(self) -> Any:
        features = {
            "id": tfds.features.Text(),
            # The library's Audio feature needs TensorFlow.
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "rate": tfds.features.Scalar(dtype=np.int32),
            "image": tfds.features.Image(),
            "label": tfds.features.Text(),
        }
        description = "Recordings, each with an image of the same class."
        return tfds.core.DatasetInfo(
            builder=self, description=description, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = load(f"av:{pathlib.Path(dl_manager.manual_dir) / 'manifest.csv'}")
        names = {"val": "validation", "all": "train"}
        return {names.get(name, name): self._generate_examples(source, split) for name, split in source.splits.items()}

    def _generate_examples(self, source: PairSource, split: PairSplit) -> Iterator[tuple[str, dict[str, Any]]]:
        assert split.label is not None
        assert source.label_names is not None
        for index, name in enumerate(split.ids.tolist()):
            ((wave, rate),) = split.a.read(np.array([index]))
            image: Any = split.b.items[index]  # type: ignore[attr-defined]
            yield (
                name,
                {
                    "id": name,
                    "audio": np.clip(np.round(wave * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16),
                    "rate": rate,
                    "image": pathlib.Path(image).read_bytes(),
                    "label": source.label_names[split.label[index]],
                },
            )
