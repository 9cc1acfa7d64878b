"""Encodes class prompts with a frozen text encoder."""

from __future__ import annotations

import pathlib

import numpy as np

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.storage import write_npz_atomic
from alignment_jax.extract.encode_columns import encode_texts
from alignment_jax.extract.encoders import Encoder
from alignment_jax.extract.item_count import ItemCount, OnProgress, no_progress


def extract_prompts(
    prompts: data.Prompts,
    text: Encoder,
    out: pathlib.Path,
    *,
    batch_size: int = 64,
    on_progress: OnProgress = no_progress,
) -> None:
    """Writes prompts in the .npz format of `data.load_prompts`.

    Args:
      prompts: as texts.
      text: the encoder of the training latents.
      out: a file ending in .npz.
      batch_size: texts of a batch, on each device.
      on_progress: called at the start and after every batch.

    Raises:
      ConfigError: `out` does not end in .npz, its folder does not exist, or the prompts are already latents.
    """
    if out.suffix != ".npz" or not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: give an .npz file in an existing folder")
    if prompts.column.kind != "text":
        raise ConfigError("--prompts has latents; give the text file of the prompts")
    column = prompts.column
    count = ItemCount({"text": len(column)}, on_progress)
    arrays = {
        "text": encode_texts(column, text, batch_size=batch_size, on_batch=lambda k: count.encoded("text", k)),
        "class": prompts.class_of,
        "class_name": np.array(prompts.classes),
        "caption": np.array(column.read(np.arange(len(column)))),
    }
    write_npz_atomic(out, arrays)
