"""How the columns of a data set become the arrays that a model takes: transforms, tokenizer, batches."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.modality_checks import sides
from alignment_jax.core.types import Batch
from alignment_jax.data.pixel_range import in_range
from alignment_jax.train import processes
from alignment_jax.train.experiment import EvaluationSplit

_MOST_NUMBERS = 1 << 26  # of an evaluation split that stays on the device: 256 MiB of float32
EVALUATION_VIEWS = ("first", "mean")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The transforms of every side (a, b[, c]), for training and for evaluation; None where a column gives arrays."""

    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    prepare: Callable[[data.Column], data.Column]
    tokenizer: Any = None

    def prepared(self, split: data.PairSplit) -> data.PairSplit:
        """The split as batches are made of it: images at the size at hand and kept in memory, texts as token ids."""
        columns = {side: self.prepare(column) for side, column in sides(split).items()}
        return split.replace(**columns, original=split.original or split)

    def first_batch(self, split: data.PairSplit) -> tuple[np.ndarray, ...]:
        """Up to two samples of each side of a prepared split, as the model sees them."""
        count = min(2, len(split.a), len(split.b))
        return tuple(
            next(
                data.iterate_items(column.take(np.arange(count)), needed(column, self.evaluate[side]), count, threads=1)
            )[0]
            for side, column in sides(split).items()
        )


def loader_transforms(transforms: Mapping[str, Any], split: data.PairSplit) -> dict[str, Any]:
    """The transforms of a prepared split as `TrainLoader` takes them."""
    return {f"transform_{side}": needed(column, transforms[side]) for side, column in sides(split).items()}


def needed(column: data.Column, transform: Any) -> Any:
    """The transform for a column, or None where `prepare` made it an array of what the model takes."""
    return None if isinstance(column, data.ArrayColumn) else transform


def build_inputs(
    config: ConfigDict, kinds: Mapping[str, str], *, hints: Mapping[str, Any], tokenizer: Any = None
) -> Inputs:
    """The transforms for columns of these kinds.

    Args:
      config: the whole configuration.
      kinds: side (a, b, c) -> kind of its column.
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
    if "audio" in kinds.values():
        spectrogram = data.log_mel(**config.audio.to_dict())

        def log_mel(item: Any, rng: np.random.Generator) -> np.ndarray:
            return spectrogram(item)

        by_kind["audio"] = (log_mel, log_mel)
    augments = flip or low < 1.0
    # A crop of the smallest area still has the resolution that the model sees.
    factor = low**-0.5

    def prepare(column: data.Column) -> data.Column:
        column = in_range(column, settings.pixel_range)
        if isinstance(column, data.AudioColumn):
            size = 4 * 100 * config.audio.seconds * config.audio.bands * len(column)
            return column.spectrograms(spectrogram) if size <= settings.cache_mib << 20 else column
        if isinstance(column, data.ImageColumn):
            size = 3 * settings.image_size**2 * len(column)
            if not augments and size <= settings.cache_mib << 20:
                return _as_array(column, by_kind["image"][1])
            return column.prepared(settings.image_size, memory_limit=settings.cache_mib << 20, factor=factor)
        if isinstance(column, data.FrameColumn):
            return column.prepared(settings.image_size, memory_limit=settings.cache_mib << 20, factor=factor)
        if column.kind == "text" and tokenizer is not None:
            return data.encode_texts(column, tokenizer, settings.max_length)
        return column

    train, evaluate = ({side: by_kind[kind][phase] for side, kind in kinds.items()} for phase in (0, 1))
    return Inputs(train=train, evaluate=evaluate, prepare=prepare, tokenizer=tokenizer)


def _as_array(column: data.ImageColumn, transform: data.Transform) -> data.ArrayColumn:
    """Images that are shown the same way every time, transformed once."""
    batches = data.iterate_items(column, transform, min(256, len(column)))
    array = np.concatenate([items[where] for items, where in batches])
    return data.ArrayColumn(array, kind="image", name="images")


def tokenizer_for(config: ConfigDict, train: data.PairSplit, saved: pathlib.Path | None) -> Any:
    """The tokenizer of a run: the one that was saved, or one trained on the training captions; None without texts."""
    texts = [column for column in sides(train).values() if column.kind == "text"]
    if not texts:
        return None

    def found() -> data.Tokenizer:
        if saved is not None and saved.is_file():
            return data.Tokenizer.load(saved)
        captions = [text for column in texts for text in column.read(np.arange(len(column)))]
        return data.train_tokenizer(captions, vocab_size=config.input.vocab_size)

    if not processes.several():
        return found()
    # Another process may have another version of the library, or no access to what was saved.
    return data.Tokenizer.from_text(processes.compute_on_primary(lambda: {"text": found().to_text()})["text"])


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
                **loader_transforms(inputs.train, split),
                threads=config.input.threads,
                start_step=first,
            )
        )

    return batches


def samples_as_they_are(
    config: ConfigDict, split: data.PairSplit, inputs: Inputs
) -> Callable[[np.ndarray], Iterator[Batch]]:
    """rows -> batches of these samples, each with its first b-item and without augmentation."""
    return lambda rows: iter(
        data.TrainLoader(
            split,
            rows,
            seed=config.seed,
            epoch=0,
            **loader_transforms(inputs.evaluate, split),
            threads=config.input.threads,
            choice="first",
        )
    )


def evaluation_split(config: ConfigDict, split: data.PairSplit, inputs: Inputs) -> EvaluationSplit:
    """Every item of both sides, all captions included, without augmentation; all views of a where eval.views=mean."""

    def items(column: data.Column, transform: Any) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
        size = min(config.eval.batch_size, len(column))
        return lambda: data.iterate_items(column, needed(column, transform), size, threads=config.input.threads)

    further: tuple[data.Column, ...] = ()
    if config.eval.views == "mean" and isinstance(split.a, data.ArrayColumn):
        further = split.a.further_views()
    return EvaluationSplit(
        items_a=items(split.a, inputs.evaluate["a"]),
        items_b=items(split.b, inputs.evaluate["b"]),
        b_to_a=split.b_to_a,
        same=split.duplicate_ids,
        relevancy=None if split.relevancy is None else split.relevancy.resolve,
        views_a=tuple(items(view, inputs.evaluate["a"]) for view in further),
        latents=_latents((split.a, *further), split.b),
    )


def _latents(views_a: Sequence[data.Column], b: data.Column) -> Callable[[], tuple[np.ndarray, np.ndarray]] | None:
    """Reads both sides as whole arrays; None where they are no latents in memory, or too many for a device."""
    columns = (*views_a, b)
    if not all(isinstance(one, data.ArrayColumn) and one.kind == "embedding" and not one.mapped for one in columns):
        return None
    if sum(len(one) * one.read(np.zeros(1, np.int64))[0].size for one in columns) > _MOST_NUMBERS:
        return None

    def read() -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(views_a[0]))
        return np.stack([view.read(rows) for view in views_a]), b.read(np.arange(len(b)))

    return read
