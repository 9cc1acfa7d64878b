"""Notes that `train` prints before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from alignment_jax import data

# Fewer evaluation samples than this are too few to trust.
MIN_EVALUATION_SAMPLES = 10


def classifier_notes(source: data.PairSource) -> tuple[str, ...]:
    """Lines on missing modalities and on the classes of a data set."""
    return (*data.missing_notes(source.splits, source.modalities), *data.class_notes(source))


def repeat_notes(splits: Mapping[str, data.PairSplit], names: tuple[str, ...]) -> Iterator[str]:
    """A line for each split with repeated items; `names` are the modalities."""
    for name, split in splits.items():
        if line := data.duplicates_note(name, data.count_duplicates(split), names):
            yield line


def batch_note(batch_size: int, n: int) -> Iterator[str]:
    """A line where one batch holds the whole training set."""
    if batch_size > n:
        yield f"input.batch_size is {batch_size}, but train has {n} samples: a batch holds all of them"


def accumulation_note(accumulate: int, total_steps: int) -> Iterator[str]:
    """A line where the last batches belong to no update."""
    if unused := total_steps % accumulate:
        whole = total_steps - unused
        yield (
            f"optimizer.accumulate is {accumulate} and training has {total_steps} steps: the last {unused} "
            f"{'batch makes' if unused == 1 else 'batches make'} no update; set train.duration to '{whole} steps' or "
            f"'{whole + accumulate} steps' to use every batch"
        )


def small_split_notes(splits: Mapping[str, data.PairSplit]) -> Iterator[str]:
    """A line for each evaluation split that is very small."""
    for name, split in splits.items():
        if name != "train" and len(split) < MIN_EVALUATION_SAMPLES:
            yield f"{name} has {len(split)} samples: too few to trust its metrics, or a choice made by them"
