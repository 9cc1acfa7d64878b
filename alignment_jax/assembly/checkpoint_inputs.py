"""What the checkpoints of a model's encoders say about its inputs: their tokenizer and the size of images."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.hub import weights_digest
from alignment_jax.core.storage import write_text_atomic
from alignment_jax.models.encoders.checkpoint import Checkpoint, open_checkpoint
from alignment_jax.models.pretrained import ImagePreprocess, TextPreprocess
from alignment_jax.models.registry import ENCODER_OPTIONS

# Name of an encoder -> the tower that it takes from its checkpoint.
SIDES = {"pretrained_image": "image", "pretrained_text": "text"}


@dataclasses.dataclass(frozen=True)
class CheckpointEncoder:
    """An encoder whose weights are those of a checkpoint.

    option: its section of the model, "encoder_a" for example. settings: of that section.
    """

    option: str
    settings: ConfigDict

    @property
    def checkpoint(self) -> Checkpoint:
        name = self.settings.name
        return open_checkpoint(str(self.settings.model), SIDES[name])  # type: ignore[arg-type]


def checkpoint_encoders(model: ConfigDict) -> tuple[CheckpointEncoder, ...]:
    """The encoders of a model that come from checkpoints, in the order of its sides."""
    found = []
    for option in ENCODER_OPTIONS:
        settings = model.get(option)
        if settings is not None and not isinstance(settings, str) and settings.name in SIDES:
            found.append(CheckpointEncoder(option, settings))
    return tuple(found)


def trailing_padding(model: ConfigDict) -> dict[str, int]:
    """Side -> id at the end of short rows of token ids, where the side's encoder does not read it."""
    texts = [one for one in checkpoint_encoders(model) if SIDES[one.settings.name] == "text"]
    ids = {one.option.removeprefix("encoder_"): one.checkpoint.preprocess.texts.trailing_padding for one in texts}
    return {side: padding for side, padding in ids.items() if padding is not None}


def base_digests(model: ConfigDict) -> dict[str, dict[str, str]]:
    """Encoder -> name, absolute folder and digest of the checkpoint that it starts from."""
    found = {}
    for one in checkpoint_encoders(model):
        folder = one.checkpoint.folder.absolute()
        found[one.option] = {
            "model": str(one.settings.model),
            "folder": str(folder),
            "weights": weights_digest(folder),
        }
    return found


def with_recorded_folders(config: ConfigDict, recorded: Any) -> ConfigDict:
    """The configuration with the folders that a run recorded in place of names, which depend on the current folder.

    Args:
      config: of the run.
      recorded: its `base_digests`; None for a run without such encoders.
    """
    config = config.copy_and_resolve_references()
    for option, base in (recorded or {}).items():
        if pathlib.Path(base["folder"]).is_dir():
            kind = str(config.model[option].model).partition(":")[0]
            config.model[option].model = f"{kind}:{base['folder']}"
    return config


def check_bases(model: ConfigDict, recorded: Any) -> None:
    """Raises ConfigError where a checkpoint is not the one that the run started from.

    Args:
      model: the section `model`.
      recorded: `base_digests` of the run; None for a run without such encoders.
    """
    for option, found in base_digests(model).items():
        before = (recorded or {}).get(option)
        if before is not None and before["weights"] != found["weights"]:
            raise ConfigError(
                f"model.{option}.model is {found['model']}, whose files have changed since the run started: its "
                "checkpoints hold only what was trained and fit the old files; restore these"
            )


class CheckpointTokenizer:
    """A checkpoint's tokenizer in the form of `data.Tokenizer`.

    Args:
      preprocess: of the checkpoint.
      prefix: put before every text, beside that of the files.
      name: of the checkpoint, for messages.
      file: tokenizer.json.
    """

    def __init__(self, preprocess: TextPreprocess, *, prefix: str, name: str, file: pathlib.Path):
        self._preprocess, self._name, self._file = preprocess, name, file
        self.prefix = preprocess.prefix + prefix
        self.vocab_size, self.longest = preprocess.vocabulary, preprocess.longest
        self.pad_id, self.bos_id, self.eos_id = preprocess.padding, None, None

    def encode(self, texts: Sequence[str], max_length: int) -> np.ndarray:
        """int32 [n, `row_length(max_length)`]."""
        return self._preprocess(texts, prefix=self.prefix, length=self.row_length(max_length))["tokens"]

    def count(self, texts: Sequence[str], most: int) -> np.ndarray:
        """Number of ids of each text, special ones included; int64 [n]. Counts above `most` are lower bounds."""
        ids = self._preprocess.ids(texts, prefix=self.prefix, longest=most + 1)
        return np.array([len(one) for one in ids])

    def row_length(self, length: int, *, inferred: bool = False) -> int:
        """Ids in a row for texts of up to `length` tokens; an inferred length is cut to the table of positions.

        Raises:
          ConfigError: a length that was asked for is larger than the table.
        """
        if length > self.longest and not inferred:
            raise ConfigError(
                f"input.max_length is {length}, but {self._name} reads at most {self.longest} tokens; set it to "
                f"{self.longest}, or to 0 to infer it"
            )
        return self.longest if self._preprocess.fixed else min(length, self.longest)

    def decode(self, ids: np.ndarray) -> list[str]:
        """Texts of ids [n, length], without padding and special tokens."""
        return self._preprocess.decode(ids)

    def save(self, path: str | pathlib.Path) -> None:
        """Copies tokenizer.json."""
        write_text_atomic(path, self.to_text())

    def to_text(self) -> str:
        """tokenizer.json."""
        return self._file.read_text(encoding="utf-8")


def checkpoint_tokenizer(model: ConfigDict) -> CheckpointTokenizer | None:
    """The tokenizer of a model whose texts are read by checkpoints; None where none is.

    Raises:
      ConfigError: two text encoders with different tokenizers.
    """
    texts = [one for one in checkpoint_encoders(model) if SIDES[one.settings.name] == "text"]
    if not texts:
        return None
    first, *others = texts
    for other in others:
        if (other.settings.model, other.settings.get("prefix")) != (first.settings.model, first.settings.get("prefix")):
            raise ConfigError(
                f"model.{first.option} and model.{other.option} read texts with different tokenizers; extract the "
                "latents of one side with alignment-jax extract and give it encoder latents"
            )
    texts_of = first.checkpoint.preprocess.texts
    return CheckpointTokenizer(
        texts_of,
        prefix=str(first.settings.get("prefix") or ""),
        name=str(first.settings.model),
        file=texts_of.file,
    )


def checkpoint_images(model: ConfigDict) -> ImagePreprocess | None:
    """The preprocessing of a model whose images are read by checkpoints; None where none is.

    Raises:
      ConfigError: two image encoders with different preprocessing, or an image_size that does not fit.
    """
    found: ImagePreprocess | None = None
    for one in checkpoint_encoders(model):
        if SIDES[one.settings.name] != "image":
            continue
        try:
            images = one.checkpoint.images(int(one.settings.get("image_size") or 0))
        except ConfigError as error:
            raise ConfigError(f"model.{one.option}: {error}") from error
        if found is not None and images != found:
            raise ConfigError(
                f"model.{one.option} reads images at another size or scale than the other side; extract the latents of "
                "one side with alignment-jax extract and give it encoder latents"
            )
        found = images
    return found
