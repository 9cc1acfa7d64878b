"""How the columns of a data set become the arrays that a model takes: transforms, tokenizer, batches."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import Batch
from alignment_jax.train.experiment import EvaluationSplit

# The kinds of columns that each model reads, a and b.
MODEL_KINDS = {"adapters": ("embedding", "embedding"), "two_tower": ("image", "text")}
_HINTS = {
    "adapters": "it takes frozen latents: use embeddings:FILE.npz, or configs/flickr8k_raw.py for images and texts",
    "two_tower": "it takes images and texts: for frozen latents use configs/flickr8k_frozen.py",
}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The two sides' transforms, for training and for evaluation; None where the column already gives arrays."""

    train: tuple[Any, Any]
    evaluate: tuple[Any, Any]
    prepare: Callable[[data.Column], data.Column]
    tokenizer: Any = None

    def prepared(self, split: data.PairSplit) -> data.PairSplit:
        """The split as batches are made of it: images at the size at hand and kept in memory, texts as token ids."""
        return split.replace(a=self.prepare(split.a), b=self.prepare(split.b))

    def first_batch(self, split: data.PairSplit) -> tuple[np.ndarray, np.ndarray]:
        """Up to two samples of each side of a prepared split, as the model sees them."""
        count = min(2, len(split.a), len(split.b))
        columns = zip((split.a, split.b), self.evaluate, strict=True)
        a, b = (
            next(data.iterate_items(column.take(np.arange(count)), transform, count, threads=1))[0]
            for column, transform in columns
        )
        return a, b


def check_kinds(model: str, split: data.PairSplit, spec: str) -> None:
    """Raises ConfigError when the model cannot read this data."""
    if model not in MODEL_KINDS:
        raise ConfigError(f"model.name is {model!r}; it must be one of {', '.join(sorted(MODEL_KINDS))}")
    found = (split.a.kind, split.b.kind)
    if found != MODEL_KINDS[model]:
        raise ConfigError(f"model {model} cannot read {spec} ({found[0]} and {found[1]}): {_HINTS[model]}")


def build_inputs(
    config: ConfigDict, kinds: tuple[str, str], *, hints: Mapping[str, Any], tokenizer: Any = None
) -> Inputs:
    """The transforms for columns of these kinds.

    Args:
      config: the whole configuration.
      kinds: of a and b.
      hints: what augmentation the data bears (`PairSource.hints`); a configuration cannot turn on what it forbids.
      tokenizer: for texts.
    """
    settings = config.input
    flip = settings.flip and hints.get("flip", True)
    low = max(settings.crop_min_area, hints.get("crop_scale", 0.0))
    by_kind: dict[str, tuple[Any, Any]] = {
        "embedding": (None, None),
        "image": (
            data.train_image(settings.image_size, scale=(low, 1.0), flip=flip),
            data.eval_image(settings.image_size),
        ),
        "text": (None, None),  # encoded once by `prepare`, then only indexed
    }
    # A crop of the smallest area still has the resolution that the model sees.
    factor = low**-0.5

    def prepare(column: data.Column) -> data.Column:
        if isinstance(column, data.ImageColumn):
            return column.prepared(settings.image_size, memory_limit=settings.cache_mib << 20, factor=factor)
        if column.kind == "text" and tokenizer is not None:
            return data.encode_texts(column, tokenizer, settings.max_length)
        return column

    train, evaluate = zip(*(by_kind[kind] for kind in kinds), strict=True)
    return Inputs(train=train, evaluate=evaluate, prepare=prepare, tokenizer=tokenizer)


def tokenizer_for(config: ConfigDict, train: data.PairSplit, saved: pathlib.Path | None) -> Any:
    """The tokenizer of a run: the one that was saved, or one trained on the training captions; None without texts."""
    if train.b.kind != "text":
        return None
    if saved is not None and saved.is_file():
        return data.Tokenizer.load(saved)
    captions = train.b.read(np.arange(len(train.b)))
    return data.train_tokenizer(captions, vocab_size=config.input.vocab_size)


def training_batches(
    config: ConfigDict, split: data.PairSplit, inputs: Inputs
) -> Callable[[np.ndarray, int, int], Iterator[Batch]]:
    """(rows, epoch, first) -> batches, as the loop asks for them."""

    def batches(rows: np.ndarray, epoch: int, first: int) -> Iterator[Batch]:
        return iter(
            data.TrainLoader(
                split,
                rows,
                seed=config.seed,
                epoch=epoch,
                transform_a=inputs.train[0],
                transform_b=inputs.train[1],
                threads=config.input.threads,
                start_step=first,
            )
        )

    return batches


def evaluation_split(config: ConfigDict, split: data.PairSplit, inputs: Inputs) -> EvaluationSplit:
    """Every item of both sides, all captions included, without augmentation."""

    def items(column: data.Column, transform: Any) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
        size = min(config.eval.batch_size, len(column))
        return lambda: data.iterate_items(column, transform, size, threads=config.input.threads)

    return EvaluationSplit(
        items_a=items(split.a, inputs.evaluate[0]), items_b=items(split.b, inputs.evaluate[1]), b_to_a=split.b_to_a
    )
