"""Class prompts as latents of a frozen text encoder."""

from __future__ import annotations

import pathlib

import numpy as np

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.storage import write_npz_atomic
from alignment_jax.extract.encoders import Encoder
from alignment_jax.extract.latents import OnProgress, no_progress


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
      text: the encoder that made the latents which the model was trained on.
      out: a file ending in .npz.
      batch_size: texts that the encoder sees at once.
      on_progress: called at the beginning and after every batch.

    Raises:
      ConfigError: `out` does not end in .npz or its folder does not exist, or the prompts are latents already.
    """
    if out.suffix != ".npz" or not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: prompts are written to a file that ends in .npz, in a folder that exists")
    if prompts.column.kind != "text":
        raise ConfigError("--prompts holds latents already; give the text file that they were made of")
    texts = prompts.column.read(np.arange(len(prompts.column)))
    on_progress("text", 0, len(texts), False)
    encoded = []
    for k in range(0, len(texts), batch_size):
        encoded.append(text.encode(texts[k : k + batch_size]))
        on_progress("text", min(k + batch_size, len(texts)), len(texts), True)
    latents = np.concatenate(encoded)
    arrays = {
        "text": latents,
        "class": prompts.class_of,
        "class_name": np.array(prompts.classes),
        "caption": np.array(texts),
    }
    write_npz_atomic(out, arrays)
