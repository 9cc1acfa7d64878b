"""`alignment-jax embed`: both sides of a data set in the shared space, in the format of `embeddings:FILE.npz`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from alignment_jax import data
from alignment_jax.cli import common
from alignment_jax.config.trained import load_trained, open_source
from alignment_jax.core.errors import UserError


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    common.define_workdir(values, "Folder of a finished training.")
    flags.DEFINE_string("data", None, "SPEC of the data; by default the run's own.", flag_values=values)
    common.define_on_bad_sample(values, default=None)
    flags.DEFINE_string("out", None, "The .npz file to write.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    folder = common.workdir(values)
    if not values["out"].value:
        raise UserError("--out is missing: give the file to write, as in --out=embeddings.npz")
    out = pathlib.Path(values["out"].value).expanduser()
    config, source = open_source(folder, values["data"].value, on_bad_sample=values["on_bad_sample"].value)
    trained = load_trained(folder, config, source)
    for line in (*source.notes, *source.problems):
        print(line)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("image", "text", "text_to_image", "image_id", "caption", "split")
    }
    before = 0
    for name, split in source.splits.items():
        embedded = trained.embed(split)
        parts["image"].append(embedded.a)
        parts["text"].append(embedded.b)
        parts["text_to_image"].append(embedded.b_to_a.astype(np.int32) + before)
        parts["image_id"].append(np.asarray(split.ids, np.str_))
        parts["caption"].append(np.asarray(data.caption_texts(split), np.str_))
        parts["split"].append(np.full(len(split.a), name))
        before += len(split.a)
    arrays: dict[str, Any] = {name: np.concatenate(chunks) for name, chunks in parts.items()}
    if not source.has_splits:
        del arrays["split"]
    data.save_embeddings(out, **arrays)
    dim = arrays["image"].shape[1]
    print(f"{out}: image {len(arrays['image'])} x {dim}, text {len(arrays['text'])} x {dim}, of step {trained.step}")
    return 0
