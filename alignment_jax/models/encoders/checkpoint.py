"""Towers of checkpoints as encoders: sizes from the files; the weights are read at the start of a run."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any, Literal

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.hub import model_folder
from alignment_jax.models.pretrained import (
    ImagePreprocess,
    ImageText,
    ImageTower,
    Preprocess,
    TextTower,
    load,
    with_numerics,
)
from alignment_jax.models.pretrained.load import checked_numerics, describe
from alignment_jax.models.tuning.lora import TARGETS
from alignment_jax.models.tuning.names import LOGITS

KINDS = ("hf", "st")
Side = Literal["image", "text"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint by name: `hf:NAME_OR_PATH`, or `st:NAME_OR_PATH` to follow the files of sentence-transformers.

    >>> Checkpoint.parse("hf:openai/clip-vit-base-patch32", side="image").kind
    'hf'
    >>> Checkpoint.parse("clip", side="image")
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.ConfigError: the image encoder is 'clip'; it must be hf:NAME_OR_PATH or st:NAME_OR_PATH
    """

    kind: str
    name: str
    side: Side

    @classmethod
    def parse(cls, name: str, *, side: Side) -> Checkpoint:
        """Raises ConfigError for another form of the name."""
        kind, _, model = name.partition(":")
        if kind not in KINDS or not model:
            known = " or ".join(f"{kind}:NAME_OR_PATH" for kind in KINDS)
            raise ConfigError(f"the {side} encoder is {name!r}; it must be {known}")
        return cls(kind, model, side)

    @property
    def folder(self) -> pathlib.Path:
        """Raises ConfigError where there is no such folder, and no such model in the local cache."""
        return model_folder(self.name, otherwise=f"download it with `hf download {self.name}`")

    @functools.cached_property
    def _described(self) -> Any:
        return describe(self.folder, sentence=self.kind == "st")

    @property
    def both(self) -> bool:
        """Whether the checkpoint has an image and a text tower, in one space."""
        return isinstance(self._described.module, ImageText)

    @property
    def preprocess(self) -> Preprocess:
        """Of the checkpoint's files."""
        return self._described.preprocess

    def images(self, size: int = 0) -> ImagePreprocess:
        """The preprocessing of images, with `size` pixels of a side; 0 for the checkpoint's own.

        Raises:
          ConfigError: a patch does not divide the size.
        """
        images = self.preprocess.images
        if not size:
            return images
        tower = self.tower()
        assert isinstance(tower, ImageTower)
        patch = max(tower.spec.patch)
        if size < patch or size % patch:
            raise ConfigError(
                f"image_size is {size}, but {self.kind}:{self.name} has patches of {patch} pixels; set a multiple of "
                f"{patch}, or 0 for its own size"
            )
        return images.at_size(size)

    def tower(self) -> ImageTower | TextTower:
        """The tower of this side, with the default numerics.

        Raises:
          ConfigError: the checkpoint has none.
        """
        module = self._described.module
        if isinstance(module, ImageText):
            return module.image if self.side == "image" else module.text
        if not isinstance(module, ImageTower if self.side == "image" else TextTower):
            raise ConfigError(f"{self.kind}:{self.name} has no {self.side} encoder")
        return module

    def params(self) -> dict[str, Any]:
        """The parameters of the tower, read from the files."""
        params = load(self.folder, sentence=self.kind == "st").variables["params"]
        return params[self.side] if self.both else params

    def logits(self) -> dict[str, np.ndarray]:
        """`logit_scale`, and perhaps `logit_bias`, of a checkpoint with both sides; {} of others."""
        if not self.both:
            return {}
        tensors = self._described.tensors
        return {name: np.asarray(tensors.read(name)).reshape(()) for name in LOGITS if name in tensors.names}


@functools.lru_cache(maxsize=8)
def open_checkpoint(name: str, side: Side) -> Checkpoint:
    """The checkpoint of a name; its files but the weights are read once."""
    return Checkpoint.parse(name, side=side)


def tower_of(encoder: Any, side: Side) -> Any:
    """The tower of an encoder with the attributes `model`, `dropout`, `stochastic_depth`, `remat` and `dtype`."""
    numerics = checked_numerics(
        dtype=encoder.dtype,
        remat=encoder.remat,
        dropout=encoder.dropout,
        stochastic_depth=encoder.stochastic_depth,
    )
    return with_numerics(open_checkpoint(encoder.model, side).tower(), numerics)


LORA_TARGETS = ",".join(TARGETS)
