"""TFDS builder for Flickr8k or Flickr30k; the folder has the layout of `flickr:DIR`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

from alignment_jax.core.optional import require
from alignment_jax.data.spec import load
from alignment_jax.data.split import PairSplit

tfds: Any = require("tensorflow_datasets", extra="tfds", purpose="prepare data sets")


class AlignedFlickr8k(tfds.core.GeneratorBasedBuilder):
    """Features: id, image (encoded bytes), captions."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - TFDS reads it as a class attribute
    MANUAL_DOWNLOAD_INSTRUCTIONS = "A folder with Images/, captions.txt and, optionally, splits.csv."

    def _info(self) -> Any:
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
        }
        description = "Photographs with five captions each (Hodosh, Young, Hockenmaier 2013; research use)."
        return tfds.core.DatasetInfo(
            builder=self, description=description, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = load(f"flickr:{dl_manager.manual_dir}")
        names = {"val": "validation", "all": "train"}
        return {names.get(name, name): self._generate_examples(split) for name, split in source.splits.items()}

    def _generate_examples(self, split: PairSplit) -> Iterator[tuple[str, dict[str, Any]]]:
        for index, name in enumerate(split.ids.tolist()):
            item: Any = split.a.items[index]  # type: ignore[attr-defined]
            captions = split.b.read(split.b_of_a(index))
            yield name, {"id": name, "image": pathlib.Path(item).read_bytes(), "captions": captions}
