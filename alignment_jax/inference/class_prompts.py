"""Zero-shot classification with a trained model: the text side embeds class prompts, the other side the items."""

from __future__ import annotations

import numpy as np

from alignment_jax import data, evals
from alignment_jax.core.errors import DataError
from alignment_jax.inference.trained_model import TrainedModel


def class_numbers(
    source: data.PairSource, split: data.PairSplit, prompts: data.Prompts, *, setting: str = "--zero_shot"
) -> np.ndarray:
    """int32 [n], the class of each item of a split, counted as the prompts count them.

    Args:
      source, split: a data set with labels, and one of its splits.
      prompts: of the classes.
      setting: that named the prompts, for the message.

    Raises:
      DataError: no labels, or a class without a prompt.
    """
    if split.label is None or source.label_names is None:
        raise DataError(f"{source.spec}: it has no labels to classify; use labelled:FILE.csv or a file with `label`")
    number = {name.casefold(): k for k, name in enumerate(prompts.classes)}
    unknown = [name for name in source.label_names if name.casefold() not in number]
    if unknown:
        raise DataError(
            f"{setting}: class {unknown[0]!r} of {source.spec} has no prompt ({len(unknown)} such classes); "
            f"the prompts are of {', '.join(prompts.classes[:8])}{', ...' if len(prompts.classes) > 8 else ''}"
        )
    return np.array([number[name.casefold()] for name in source.label_names], np.int32)[split.label]


def zero_shot_accuracy(
    trained: TrainedModel, source: data.PairSource, split: data.PairSplit, prompts: data.Prompts
) -> dict[str, float]:
    """Accuracy at 1 and 5 over the classes of `prompts`, in %.

    Args:
      trained: an alignment model.
      source, split: a data set with labels, and the split to classify.
      prompts: texts for a model that reads texts; for one on frozen latents, their latents.

    Raises:
      DataError: no labels, a class without a prompt, or prompts that the model cannot read.
    """
    label = class_numbers(source, split, prompts)
    if isinstance(prompts.column, data.ArrayColumn) and isinstance(split.b, data.ArrayColumn):
        found, wanted = prompts.column.array.shape[1], split.b.array.shape[1]
        if found != wanted:
            raise DataError(
                f"{prompts.column.describe(0)}: {found} numbers, but the model reads {wanted}; extract the prompts "
                "with the encoder that made the training data"
            )
    # Before the prompts: a classifier then raises the clearer error.
    items = trained.embed(split).a
    classes = evals.class_embeddings(trained.embed_prompts(prompts.column), prompts.class_of)
    return evals.zero_shot(items, classes, label)
