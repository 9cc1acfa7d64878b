"""Infers settings from the training data: the pixel range and the length of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.modality_checks import split_columns
from alignment_jax.config.defaults import default
from alignment_jax.core.errors import MissingPackageError
from alignment_jax.data.pixel_range import format_pixel_range, parse_pixel_range
from alignment_jax.train import processes

# The largest inferred length of a text, in tokens; a configuration may set more.
MAX_INFERRED_TOKENS = 256
# Share of the captions of train that fit into the inferred length; lengths are multiples of STEP.
SHARE, STEP = 0.99, 8


def infer_pixel_range(setting: str, source: data.PairSource) -> tuple[str, data.PairSource, list[str]]:
    """The measured pixel range of images of more than eight bits.

    Args:
      setting: `input.pixel_range`.
      source: the data set.

    Returns:
      The setting with the measured range, as in "auto:LOW,HIGH", which config.json then keeps; the data set with that
      range; a note where there are such images.
    """
    notes = list[str]()

    def measure() -> dict[str, Any]:
        measured = data.with_pixel_range(source, setting)[1]
        if measured is None:
            return {"setting": setting}
        low, high = measured.low, measured.high
        return {"setting": f"{setting}:{format_pixel_range(measured.of(setting))}", "low": low, "high": high}

    found = processes.compute_on_primary(measure)
    if "low" in found:
        black, white = parse_pixel_range(found["setting"]) or (0, 0)
        notes.append(
            f"images of more than 8 bits: the pixels of train are {found['low']:g} to {found['high']:g}; "
            f"{black:g} becomes black and {white:g} white in all splits (input.pixel_range={setting})"
        )
    return found["setting"], data.with_pixel_range(source, found["setting"])[0], notes


def infer_max_length(setting: int, train: data.PairSplit, tokenizer: Any) -> int:
    """The tokens of a text: `input.max_length`, or the length of the captions of train where it is 0.

    That length is the smallest multiple of 8 that fits 99 % of the captions, and at most 256.
    """
    if tokenizer is None or setting != 0:
        return setting if tokenizer is None else tokenizer.row_length(setting)
    found = int(processes.compute_on_primary(lambda: {"length": _length(train, tokenizer)})["length"])
    return tokenizer.row_length(found, inferred=True)


def _length(train: data.PairSplit, tokenizer: data.Tokenizer) -> int:
    counts = [
        tokenizer.count(_texts(c), MAX_INFERRED_TOKENS) for c in split_columns(train).values() if c.kind == "text"
    ]
    return choose_length(np.concatenate(counts))


def choose_length(counts: np.ndarray) -> int:
    """The length that fits most texts; `counts` int [n] holds the tokens of each.

    >>> choose_length(np.array([5] * 99 + [40])), choose_length(np.array([5] * 98 + [40] * 2))
    (8, 40)
    """
    held = int(np.quantile(counts, SHARE, method="inverted_cdf"))
    return min(MAX_INFERRED_TOKENS, -(-held // STEP) * STEP)


def _texts(column: data.Column) -> list[str]:
    return list(column.read(np.arange(len(column))))


def count_truncated(split: data.PairSplit, tokenizer: data.Tokenizer, length: int) -> tuple[int, int]:
    """(texts of more than `length` tokens, all texts) of a split before `Inputs.prepared`."""
    counts = [tokenizer.count(_texts(c), length) for c in split_columns(split).values() if c.kind == "text"]
    return int(sum((count > length).sum() for count in counts)), sum(map(len, counts))


def truncation_note(
    truncated: Mapping[str, tuple[int, int]], length: int, *, setting: int, longest: int | None = None
) -> str | None:
    """A line on texts that are longer than the model reads; None without such texts.

    Args:
      truncated: split -> (truncated texts, all texts).
      length: tokens that the model reads.
      setting: `input.max_length`, 0 where the length was inferred.
      longest: most tokens that the encoder can read; None without a limit.

    >>> truncation_note({"train": (3, 400), "val": (0, 40)}, 32, setting=32)
    '3 of 400 texts of train are longer than 32 tokens and are truncated; --config.input.max_length=0 infers ...'
    """
    of = [f"{few} of {all_} texts of {name}" for name, (few, all_) in truncated.items() if few]
    if not of:
        return None
    if length == longest:
        return f"{', '.join(of)} are longer than {length} tokens, the most that the encoder reads, and are truncated"
    if setting == 0:
        inferred, hint = (
            ", which fit 99 % of those of train,",
            "set a larger --config.input.max_length to read them whole",
        )
    else:
        inferred, hint = "", "--config.input.max_length=0 infers the length from the data"
    return f"{', '.join(of)} are longer than {length} tokens{inferred} and are truncated; {hint}"


def text_length_notes(source: data.PairSource) -> list[str]:
    """A line on the length that training would infer for the texts of a data set, and how many it would truncate."""
    train = source.splits.get("train") or next(iter(source.splits.values()))
    texts = [text for column in split_columns(train).values() if column.kind == "text" for text in _texts(column)]
    if not any(text.strip() for text in texts):
        return []
    try:
        tokenizer = data.train_tokenizer(texts, vocab_size=default().input.vocab_size)
    except MissingPackageError:  # `data` also runs without the tokenizer package
        return []
    length = _length(train, tokenizer)
    truncated = {name: count_truncated(split, tokenizer, length) for name, split in source.splits.items()}
    few, all_ = (sum(each[place] for each in truncated.values()) for place in (0, 1))
    return [
        f"texts: training reads {length} tokens of each (input.max_length, inferred from the captions); {few} of "
        f"{all_} are longer and are truncated"
    ]


def restore_inferred_settings(config: ConfigDict, saved: Mapping[str, Any]) -> ConfigDict:
    """The configuration of a resumed run, with the settings that its start inferred from the data.

    Args:
      config: the requested configuration.
      saved: config.json of the run, from `train.workdir.read_config`.
    """
    config = config.copy_and_resolve_references()
    before = saved.get("input", {})
    if config.input.max_length == 0:
        config.input.max_length = before.get("max_length", 0)
    _restore_cross_validated(config, saved)
    if str(before.get("pixel_range", "")).startswith(f"{config.input.pixel_range}:"):
        config.input.pixel_range = before["pixel_range"]
    return config


def _restore_cross_validated(config: ConfigDict, saved: Mapping[str, Any]) -> None:
    init = saved.get("init", {})
    if config.init.get("selection") != "cross_validation" or init.get("selection") != "cross_validation":
        return
    if config.init.training == "auto":
        config.init.training = init.get("training", "auto")
        config.train.duration = saved.get("train", {}).get("duration", config.train.duration)
    for name in ("shrinkage", "dim", "power"):
        if config.init[name] == "auto":
            config.init[name] = init.get(name, "auto")
    if config.eval.hubness == "auto":
        config.eval.hubness = saved.get("eval", {}).get("hubness", "auto")
