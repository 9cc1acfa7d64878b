"""Prepares the data set of a configuration: training samples, inferred settings, input pipeline."""

from __future__ import annotations

import dataclasses
import pathlib

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.checkpoint_inputs import checkpoint_images
from alignment_jax.assembly.classifier import check_classification, is_classifier
from alignment_jax.assembly.cluster_sizes import with_cluster_sizes
from alignment_jax.assembly.duplicate_ids import item_ids
from alignment_jax.assembly.inferred_settings import (
    count_truncated,
    infer_max_length,
    infer_pixel_range,
    truncation_note,
)
from alignment_jax.assembly.inputs import Inputs, build_inputs, build_tokenizer
from alignment_jax.assembly.methods import needs_cluster_sizes, registered_loss
from alignment_jax.assembly.modality_checks import check_modalities, split_columns
from alignment_jax.assembly.warm_start import source_tokenizer


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """A data set, ready for batches.

    config: the configuration with the settings that were inferred from the data.
    source: the data set.
    splits: every split with raw items; train with what the methods read of it.
    prepared: the same splits after `Inputs.prepared`.
    inputs: the input pipeline.
    cluster_range: smallest and largest cluster size of the training samples; None where no method reads it.
    notes: lines to print before training.
    """

    config: ConfigDict
    source: data.PairSource
    splits: dict[str, data.PairSplit]
    prepared: dict[str, data.PairSplit]
    inputs: Inputs
    cluster_range: tuple[float, float] | None
    notes: tuple[str, ...]

    @property
    def train(self) -> data.PairSplit:
        """The prepared training split."""
        return self.prepared["train"]

    @property
    def evaluation_splits(self) -> dict[str, data.PairSplit]:
        """The prepared splits other than train."""
        return {name: split for name, split in self.prepared.items() if name != "train"}


def prepare_data(
    config: ConfigDict, source: data.PairSource, *, saved_tokenizer: pathlib.Path | None = None
) -> PreparedData:
    """Everything up to batches.

    Args:
      config: the complete configuration.
      source: the data set with a split "train".
      saved_tokenizer: of an earlier part of the same run.

    Raises:
      ConfigError, DataError: the model cannot read the data, or a setting does not apply to it.
    """
    asked_length = config.input.max_length
    config = config.copy_and_resolve_references()
    config.input.pixel_range, source, range_notes = infer_pixel_range(str(config.input.pixel_range), source)
    train, cluster_range = _training_split(config, source)
    saved = saved_tokenizer or source_tokenizer(str(config.init.name))
    tokenizer = build_tokenizer(config.model, train, vocab_size=config.input.vocab_size, saved=saved)
    config.input.max_length = infer_max_length(asked_length, train, tokenizer)
    kinds = {side: column.kind for side, column in split_columns(train).items()}
    inputs = build_inputs(
        config.input,
        config.audio,
        kinds=kinds,
        hints=source.hints,
        tokenizer=tokenizer,
        images=checkpoint_images(config.model),
    )
    splits = {**source.splits, "train": train}
    text_notes = _truncation_notes(splits, tokenizer, config.input.max_length, setting=asked_length)
    prepared = {name: inputs.prepared(split) for name, split in splits.items()}
    notes = (*source.notes, *source.problems, *range_notes, *text_notes)
    return PreparedData(config, source, splits, prepared, inputs, cluster_range, notes)


def _training_split(config: ConfigDict, source: data.PairSource) -> tuple[data.PairSplit, tuple[float, float] | None]:
    """The training samples with what the methods read of them, and the smallest and largest cluster size."""
    train = data.few_samples(source.splits["train"], config.input.fraction, seed=config.data_seed)
    check_modalities(config.model, train, spec=config.data)
    if is_classifier(config.model):
        check_classification(config, train, source)
    train = data.mismatch(train, config.input.mismatched, seed=config.data_seed)
    cluster_range = None
    if needs_cluster_sizes(config.temperature, config.margin):
        train, cluster_range = with_cluster_sizes(config.clusters, train, seed=config.data_seed)
    else:
        train = train.replace(cluster_size=None, cluster_size_b=None)  # batches carry only columns that a method reads
    if not is_classifier(config.model):
        supported = registered_loss(config.loss.name).duplicates
        ids = item_ids(
            train,
            duplicates=config.loss.duplicates,
            supported=supported,
            replacement=config.sampling.replacement,
        )
        train = train.replace(**ids)
    return train, cluster_range


def _truncation_notes(
    splits: dict[str, data.PairSplit], tokenizer: data.Tokenizer | None, length: int, *, setting: int
) -> list[str]:
    if tokenizer is None:
        return []
    truncated = {name: count_truncated(split, tokenizer, length) for name, split in splits.items()}
    note = truncation_note(truncated, length, setting=setting, longest=getattr(tokenizer, "longest", None))
    return [] if note is None else [note]
