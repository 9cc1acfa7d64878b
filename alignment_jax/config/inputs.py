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
_FEATURES = ("audio", "image", "embedding")
MODEL_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "adapters": (("embedding",), ("embedding",)),
    "two_tower": (("image",), ("text",)),
    "fusion_classifier": (_FEATURES, _FEATURES),
}
_HINTS = {
    "adapters": "it takes frozen latents: use embeddings:FILE.npz, or configs/flickr8k_raw.py for images and texts",
    "two_tower": "it takes images and texts: for frozen latents use configs/flickr8k_frozen.py",
    "fusion_classifier": "it takes recordings, images or features with labels: use av:FILE.csv or features:FILE.npz",
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

    def first_batch(self, split: data.PairSplit) -> tuple[np.ndarray, ...]:
        """Up to two samples of each side of a prepared split, as the model sees them."""
        count = min(2, len(split.a), len(split.b))
        columns = [(split.a, self.evaluate[0]), (split.b, self.evaluate[1])]
        if split.c is not None:
            columns.append((split.c, None))
        return tuple(
            next(data.iterate_items(column.take(np.arange(count)), needed(column, transform), count, threads=1))[0]
            for column, transform in columns
        )


def needed(column: data.Column, transform: Any) -> Any:
    """The transform for a column, or None where `prepare` made it an array of what the model takes."""
    return None if isinstance(column, data.ArrayColumn) else transform


def check_kinds(model: str, split: data.PairSplit, spec: str) -> None:
    """Raises ConfigError when the model cannot read this data."""
    if model not in MODEL_KINDS:
        raise ConfigError(f"model.name is {model!r}; it must be one of {', '.join(sorted(MODEL_KINDS))}")
    found = (split.a.kind, split.b.kind)
    if any(kind not in known for kind, known in zip(found, MODEL_KINDS[model], strict=True)):
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
    if "audio" in kinds:
        spectrogram = data.log_mel(**config.audio.to_dict())

        def log_mel(item: Any, rng: np.random.Generator) -> np.ndarray:
            return spectrogram(item)

        by_kind["audio"] = (log_mel, log_mel)
    augments = flip or low < 1.0
    # A crop of the smallest area still has the resolution that the model sees.
    factor = low**-0.5

    def prepare(column: data.Column) -> data.Column:
        if isinstance(column, data.AudioColumn):
            size = 4 * 100 * config.audio.seconds * config.audio.bands * len(column)
            return column.spectrograms(spectrogram) if size <= settings.cache_mib << 20 else column
        if isinstance(column, data.ImageColumn):
            size = 3 * settings.image_size**2 * len(column)
            if not augments and size <= settings.cache_mib << 20:
                return _as_array(column, by_kind["image"][1])
            return column.prepared(settings.image_size, memory_limit=settings.cache_mib << 20, factor=factor)
        if column.kind == "text" and tokenizer is not None:
            return data.encode_texts(column, tokenizer, settings.max_length)
        return column

    train, evaluate = zip(*(by_kind[kind] for kind in kinds), strict=True)
    return Inputs(train=train, evaluate=evaluate, prepare=prepare, tokenizer=tokenizer)


def _as_array(column: data.ImageColumn, transform: data.Transform) -> data.ArrayColumn:
    """Images that are shown the same way every time, transformed once."""
    batches = data.iterate_items(column, transform, min(256, len(column)))
    array = np.concatenate([items[where] for items, where in batches])
    return data.ArrayColumn(array, kind="image", name="images")


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
                transform_a=needed(split.a, inputs.train[0]),
                transform_b=needed(split.b, inputs.train[1]),
                threads=config.input.threads,
                start_step=first,
            )
        )

    return batches


def samples_in_order(
    config: ConfigDict, split: data.PairSplit, inputs: Inputs, *, batch_size: int
) -> Callable[[], Iterator[Batch]]:
    """() -> every sample once, in order, with its first b-item and without augmentation; the last batch is padded."""
    rows = data.batch_rows(np.arange(len(split)), batch_size)
    return lambda: iter(
        data.TrainLoader(
            split,
            rows,
            seed=config.seed,
            epoch=0,
            transform_a=needed(split.a, inputs.evaluate[0]),
            transform_b=needed(split.b, inputs.evaluate[1]),
            threads=config.input.threads,
            choice="first",
        )
    )


def evaluation_split(config: ConfigDict, split: data.PairSplit, inputs: Inputs) -> EvaluationSplit:
    """Every item of both sides, all captions included, without augmentation."""

    def items(column: data.Column, transform: Any) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
        size = min(config.eval.batch_size, len(column))
        return lambda: data.iterate_items(column, needed(column, transform), size, threads=config.input.threads)

    return EvaluationSplit(
        items_a=items(split.a, inputs.evaluate[0]), items_b=items(split.b, inputs.evaluate[1]), b_to_a=split.b_to_a
    )
