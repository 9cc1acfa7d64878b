"""Turns the columns of a data set into the arrays that a model takes: transforms, tokenizer, batches."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.checkpoint_inputs import checkpoint_tokenizer
from alignment_jax.assembly.modality_checks import split_columns
from alignment_jax.core.types import Batch
from alignment_jax.data.pixel_range import in_range
from alignment_jax.models.pretrained import ImagePreprocess
from alignment_jax.train import processes
from alignment_jax.train.experiment import EvaluationSplit

_MAX_LATENT_NUMBERS = 1 << 26  # of an evaluation split that stays on the device: 256 MiB of float32
EVALUATION_VIEWS = ("first", "mean")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The input pipeline of a model.

    train, evaluate: side (a, b[, c]) -> transform of an item; None for a column of arrays.
    prepare: column -> the column that batches are read from.
    threads: that read and transform items.
    tokenizer: of texts; None without texts.
    """

    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    prepare: Callable[[data.Column], data.Column]
    threads: int
    tokenizer: Any = None

    def prepared(self, split: data.PairSplit) -> data.PairSplit:
        """The split that batches are read from: small images cached in memory, texts as token ids."""
        columns = {side: self.prepare(column) for side, column in split_columns(split).items()}
        return split.replace(**columns, original=split.original or split)

    def first_batch(self, split: data.PairSplit) -> tuple[np.ndarray, ...]:
        """Up to two samples of each side of a prepared split, as arrays for the model."""
        count = min(2, len(split.a), len(split.b))
        return tuple(
            next(
                data.iterate_items(
                    column.take(np.arange(count)), remaining_transform(column, self.evaluate[side]), count, threads=1
                )
            )[0]
            for side, column in split_columns(split).items()
        )


def loader_transforms(transforms: Mapping[str, Any], split: data.PairSplit) -> dict[str, Any]:
    """The transforms of a prepared split as arguments of `TrainLoader`."""
    return {
        f"transform_{side}": remaining_transform(column, transforms[side])
        for side, column in split_columns(split).items()
    }


def remaining_transform(column: data.Column, transform: Any) -> Any:
    """The transform of a prepared column; None where `prepare` already made it an array for the model."""
    return None if isinstance(column, data.ArrayColumn) else transform


def build_inputs(
    settings: ConfigDict,
    audio: ConfigDict,
    *,
    kinds: Mapping[str, str],
    hints: Mapping[str, Any],
    tokenizer: Any = None,
    images: ImagePreprocess | None = None,
) -> Inputs:
    """The input pipeline for columns of these kinds.

    Args:
      settings: the section `input` of the configuration.
      audio: the section `audio`.
      kinds: side (a, b, c) -> kind of its column.
      hints: limits of augmentation that the data set declares (`PairSource.hints`); they override the settings.
      tokenizer: for texts.
      images: the preprocessing of the checkpoint that reads the images; None for `input.image_size` and cropping.
    """
    flip = settings.flip and hints.get("flip", True)
    low = max(settings.crop_min_area, hints.get("crop_scale", 0.0))
    by_kind: dict[str, tuple[Any, Any]] = {
        "embedding": (None, None),
        "image": _image_transforms(settings.image_size, images, scale=(low, 1.0), flip=flip),
        "text": (None, None),  # encoded once by `prepare`, then only indexed
    }
    if "audio" in kinds.values():
        spectrogram = data.log_mel(**audio.to_dict())

        def log_mel(item: Any, rng: np.random.Generator) -> np.ndarray:
            return spectrogram(item)

        by_kind["audio"] = (log_mel, log_mel)
    augments = flip or low < 1.0
    # The smallest crop still has the full input resolution.
    factor = low**-0.5

    def prepare(column: data.Column) -> data.Column:
        column = in_range(column, settings.pixel_range)
        if isinstance(column, data.AudioColumn):
            size = 4 * 100 * audio.seconds * audio.bands * len(column)
            return column.spectrograms(spectrogram) if size <= settings.cache_mib << 20 else column
        if isinstance(column, data.ImageColumn):
            pixels = settings.image_size**2 if images is None or images.size is None else math.prod(images.size)
            if not augments and 3 * pixels * len(column) <= settings.cache_mib << 20:
                return _as_array(column, by_kind["image"][1])
            if images is not None:
                return column  # resized once, from the original, as the checkpoint's own processor does
            return column.prepared(settings.image_size, memory_limit=settings.cache_mib << 20, factor=factor)
        if isinstance(column, data.FrameColumn):
            return column.prepared(settings.image_size, memory_limit=settings.cache_mib << 20, factor=factor)
        if column.kind == "text" and tokenizer is not None:
            return data.encode_texts(column, tokenizer, settings.max_length)
        return column

    train, evaluate = ({side: by_kind[kind][phase] for side, kind in kinds.items()} for phase in (0, 1))
    return Inputs(train=train, evaluate=evaluate, prepare=prepare, threads=settings.threads, tokenizer=tokenizer)


def _image_transforms(
    size: int, images: ImagePreprocess | None, *, scale: tuple[float, float], flip: bool
) -> tuple[data.Transform, data.Transform]:
    """(transform in training, transform in evaluation) of an image."""
    augmented = data.train_image(size if images is None else max(images.size or (size,)), scale=scale, flip=flip)
    if images is None:
        return augmented, data.eval_image(size)
    own, augments = images, flip or scale[0] < 1.0

    def resized(image: Any, rng: np.random.Generator) -> np.ndarray:
        return own.pixels([image])[0]

    def resized_and_augmented(image: Any, rng: np.random.Generator) -> np.ndarray:
        return own.pixels([augmented(image, rng)])[0]

    return resized_and_augmented if augments else resized, resized


def _as_array(column: data.ImageColumn, transform: data.Transform) -> data.ArrayColumn:
    """Images without augmentation, transformed once."""
    batches = data.iterate_items(column, transform, min(256, len(column)))
    array = np.concatenate([items[where] for items, where in batches])
    return data.ArrayColumn(array, kind="image", name="images")


def build_tokenizer(model: ConfigDict, train: data.PairSplit, *, vocab_size: int, saved: pathlib.Path | None) -> Any:
    """The tokenizer of a run: that of its text encoder's checkpoint, the saved file, or one trained on the captions of
    train; None without texts.
    """
    if (own := checkpoint_tokenizer(model)) is not None:
        return own
    texts = [column for column in split_columns(train).values() if column.kind == "text"]
    if not texts:
        return None

    def load_or_train() -> data.Tokenizer:
        if saved is not None and saved.is_file():
            return data.Tokenizer.load(saved)
        captions = [text for column in texts for text in column.read(np.arange(len(column)))]
        return data.train_tokenizer(captions, vocab_size=vocab_size)

    if not processes.several():
        return load_or_train()
    # Another process may have another version of the library, or no access to the saved file.
    return data.Tokenizer.from_text(processes.compute_on_primary(lambda: {"text": load_or_train().to_text()})["text"])


def training_batches(
    split: data.PairSplit, inputs: Inputs, *, seed: int
) -> Callable[[np.ndarray, int, int], Iterator[Batch]]:
    """`Experiment.batches`: (rows, epoch, first) -> batches of rows[first:], augmented."""

    def batches(rows: np.ndarray, epoch: int, first: int) -> Iterator[Batch]:
        return iter(
            data.TrainLoader(
                split,
                rows,
                seed=seed,
                epoch=epoch,
                **loader_transforms(inputs.train, split),
                threads=inputs.threads,
                start_step=first,
            )
        )

    return batches


def scoring_batches(split: data.PairSplit, inputs: Inputs) -> Callable[[np.ndarray], Iterator[Batch]]:
    """rows -> batches of these samples, each with its first b-item and without augmentation."""
    return lambda rows: iter(
        data.TrainLoader(
            split,
            rows,
            seed=0,  # nothing is random
            epoch=0,
            **loader_transforms(inputs.evaluate, split),
            threads=inputs.threads,
            choice="first",
        )
    )


def evaluation_split(settings: ConfigDict, split: data.PairSplit, inputs: Inputs) -> EvaluationSplit:
    """Every item of both sides, all captions included, without augmentation; all views of a where eval.views=mean.

    Args:
      settings: the section `eval` of the configuration.
      split: prepared by `inputs`.
      inputs: the input pipeline.
    """

    a, *views_a = item_batches(settings, "a", split.a, inputs)
    (b,) = item_batches(settings, "b", split.b, inputs)
    further = _further_views(settings, split.a)
    return EvaluationSplit(
        items_a=a,
        items_b=b,
        b_to_a=split.b_to_a,
        same=split.duplicate_ids,
        relevancy=None if split.relevancy is None else split.relevancy.resolve,
        views_a=tuple(views_a),
        latents=_latents((split.a, *further), split.b),
    )


def item_batches(
    settings: ConfigDict, side: str, column: data.Column, inputs: Inputs, *, size: int | None = None
) -> list[Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]]:
    """Padded batches of all items of a prepared column, without augmentation: one function for each view to average.

    The functions take `part`, see `data.iterate_items`.

    Args:
      settings: the section `eval` of the configuration.
      side: "a" or "b"; only a-items have further views.
      column: prepared by `inputs`.
      inputs: the input pipeline.
      size: items of a batch; None for `eval.batch_size`.
    """
    size = min(settings.batch_size, len(column)) if size is None else size
    views = (column, *(_further_views(settings, column) if side == "a" else ()))

    def batches(view: data.Column, part: tuple[int, int] = (0, 1)) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        transform = remaining_transform(view, inputs.evaluate[side])
        return data.iterate_items(view, transform, size, threads=inputs.threads, part=part)

    return [functools.partial(batches, view) for view in views]


def _further_views(settings: ConfigDict, column: data.Column) -> tuple[data.Column, ...]:
    return column.further_views() if settings.views == "mean" and isinstance(column, data.ArrayColumn) else ()


def _latents(views_a: Sequence[data.Column], b: data.Column) -> Callable[[], tuple[np.ndarray, np.ndarray]] | None:
    """Reads both sides as whole arrays; None unless both are latents in memory that fit on a device."""
    columns = (*views_a, b)
    if not all(isinstance(one, data.ArrayColumn) and one.kind == "embedding" and not one.mapped for one in columns):
        return None
    if sum(len(one) * one.read(np.zeros(1, np.int64))[0].size for one in columns) > _MAX_LATENT_NUMBERS:
        return None

    def read() -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(views_a[0]))
        return np.stack([view.read(rows) for view in views_a]), b.read(np.arange(len(b)))

    return read
