"""Settings that the training data decides where the configuration leaves them open, and what a run has kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.modality_checks import sides
from alignment_jax.config.defaults import default
from alignment_jax.core.errors import MissingPackageError
from alignment_jax.data.pixel_range import format_pixel_range, parse_pixel_range
from alignment_jax.train import processes

# The longest text that is chosen from the data, in tokens; a configuration may ask for more.
MOST_TOKENS = 256
# Of the captions of train that the chosen length holds; lengths are multiples of STEP.
SHARE, STEP = 0.99, 8


def with_decided_range(config: ConfigDict, source: data.PairSource) -> tuple[ConfigDict, data.PairSource, list[str]]:
    """The configuration and the data with the range of images of more than eight bits, and a note where there are some.

    "auto" becomes "auto:LOW,HIGH", and so does "percentiles", so that the run keeps what was measured and on what rule.
    """
    setting, notes = str(config.input.pixel_range), list[str]()

    def measure() -> dict[str, Any]:
        measured = data.with_pixel_range(source, setting)[1]
        if measured is None:
            return {"setting": setting}
        low, high = measured.low, measured.high
        return {"setting": f"{setting}:{format_pixel_range(measured.of(setting))}", "low": low, "high": high}

    found = processes.compute_on_primary(measure)
    config = config.copy_and_resolve_references()
    config.input.pixel_range = found["setting"]
    if "low" in found:
        kept = parse_pixel_range(found["setting"]) or (0, 0)
        notes.append(
            f"images of more than 8 bits: the pixels of train are {found['low']:g} to {found['high']:g}; "
            f"{kept[0]:g} becomes black and {kept[1]:g} white in all splits (input.pixel_range={setting})"
        )
    return config, data.with_pixel_range(source, found["setting"])[0], notes


def with_decided_length(config: ConfigDict, train: data.PairSplit, tokenizer: Any) -> ConfigDict:
    """The configuration with the number of tokens of a text, where `input.max_length` is 0 and there are texts.

    It is the smallest multiple of 8 that holds 99 of 100 captions of train whole, and at most 256.
    """
    config = config.copy_and_resolve_references()
    if tokenizer is not None and config.input.max_length == 0:
        config.input.max_length = processes.compute_on_primary(lambda: {"length": _length(train, tokenizer)})["length"]
    return config


def _length(train: data.PairSplit, tokenizer: data.Tokenizer) -> int:
    counts = [tokenizer.count(_texts(c), MOST_TOKENS) for c in sides(train).values() if c.kind == "text"]
    return chosen_length(np.concatenate(counts))


def chosen_length(counts: np.ndarray) -> int:
    """The length for texts of so many tokens, int [n].

    >>> chosen_length(np.array([5] * 99 + [40])), chosen_length(np.array([5] * 98 + [40] * 2))
    (8, 40)
    """
    held = int(np.quantile(counts, SHARE, method="inverted_cdf"))
    return min(MOST_TOKENS, -(-held // STEP) * STEP)


def _texts(column: data.Column) -> list[str]:
    return list(column.read(np.arange(len(column))))


def cut_texts(split: data.PairSplit, tokenizer: data.Tokenizer, length: int) -> tuple[int, int]:
    """(texts of more than `length` tokens, texts) of a split whose texts are not encoded yet."""
    counts = [tokenizer.count(_texts(c), length) for c in sides(split).values() if c.kind == "text"]
    return int(sum((count > length).sum() for count in counts)), sum(map(len, counts))


def cut_line(cut: Mapping[str, tuple[int, int]], length: int, *, setting: int) -> str | None:
    """What is lost of texts that are longer than the model reads; None where nothing is.

    Args:
      cut: split -> (texts that are cut, texts).
      length: tokens that the model reads.
      setting: `input.max_length`, 0 where the length was chosen from the data.

    >>> cut_line({"train": (3, 400), "val": (0, 40)}, 32, setting=32)
    '3 of 400 texts of train are longer than 32 tokens, and lose their end; --config.input.max_length=0 ...'
    """
    of = [f"{few} of {all_} texts of {name}" for name, (few, all_) in cut.items() if few]
    if not of:
        return None
    chosen = ", chosen to hold 99 % of those of train" if setting == 0 else ""
    way = "a larger --config.input.max_length reads" if setting == 0 else "--config.input.max_length=0 chooses"
    rest = "them whole" if setting == 0 else "the length from the data"
    return f"{', '.join(of)} are longer than {length} tokens{chosen}, and lose their end; {way} {rest}"


def lengths_of_texts(source: data.PairSource) -> list[str]:
    """A line on the length that training would choose for the texts of a data set, and what it would cut."""
    train = source.splits.get("train") or next(iter(source.splits.values()))
    texts = [text for column in sides(train).values() if column.kind == "text" for text in _texts(column)]
    if not any(text.strip() for text in texts):
        return []
    try:
        tokenizer = data.train_tokenizer(texts, vocab_size=default().input.vocab_size)
    except MissingPackageError:  # what a person looks at needs no tokenizer
        return []
    length = _length(train, tokenizer)
    cut = {name: cut_texts(split, tokenizer, length) for name, split in source.splits.items()}
    few, all_ = (sum(each[place] for each in cut.values()) for place in (0, 1))
    return [
        f"texts: training reads {length} tokens of each (input.max_length, chosen from the captions); {few} of {all_} "
        "are longer and lose their end"
    ]


def as_begun(config: ConfigDict, kept: Mapping[str, Any]) -> ConfigDict:
    """The configuration of a run that goes on: what the data decided when it began stays as it was decided.

    Args:
      config: as it is asked for.
      kept: of the run in the workdir, see `train.workdir.read_config`.
    """
    config = config.copy_and_resolve_references()
    before = kept.get("input", {})
    if config.input.max_length == 0:
        config.input.max_length = before.get("max_length", 0)
    if str(before.get("pixel_range", "")).startswith(f"{config.input.pixel_range}:"):
        config.input.pixel_range = before["pixel_range"]
    return config
