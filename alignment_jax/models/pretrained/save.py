"""Back to a folder that transformers and sentence-transformers load."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.storage import write_bytes_atomic
from alignment_jax.models.pretrained.load import read_config
from alignment_jax.models.pretrained.weights import WEIGHTS, tensors_of, write_tensors
from alignment_jax.models.tuning.merge import merge_parameters

# Everything but weights and programs; sentence-transformers' folders of modules included.
_COPIED = ("*.json", "*.txt", "*.model", "*/config.json")
_LEFT_OUT = ("config.json", "*.safetensors.index.json")


def save_pretrained(
    folder: str | os.PathLike[str], variables: Mapping[str, Any], *, source: str | os.PathLike[str]
) -> None:
    """Writes a checkpoint's parameters, as after fine-tuning, to a folder that transformers loads.

    config.json, preprocessing and tokenizer files are those of `source`. Heads that `load` leaves out (a classifier, a
    masked language model) are not written.

    Args:
      folder: new or empty, or one that was written before; not `source` itself.
      variables: as `load` gives them, with any values; their dtype is the file's. LoRA adapters are added to their
        kernels (see `models.tuning`).
      source: the folder that `load` read.

    Raises:
      ConfigError: `folder` is `source`, or parameters are no part of the checkpoint.
      RunError: a file cannot be written.
      MissingPackageError: safetensors is not installed.

    >>> import tempfile
    >>> from alignment_jax.models.pretrained import load, save_pretrained, tiny_folder
    >>> first, second = tiny_folder(tempfile.mkdtemp()), tempfile.mkdtemp()
    >>> module, variables, _ = load(first)
    >>> save_pretrained(second, variables, source=first)
    >>> bool((load(second).variables["params"]["words"] == variables["params"]["words"]).all())
    True
    """
    source, target = pathlib.Path(source), pathlib.Path(folder)
    config, family, sentence = read_config(source)
    if target.resolve() in (source.resolve(), sentence.transformer.resolve()):
        raise ConfigError(f"{target}: this is the checkpoint itself; save to another folder")
    params = merge_parameters(variables["params"])
    tensors = tensors_of(params, family.weights(config), name=family.saved_prefix)
    inner = target / sentence.transformer.relative_to(source)
    inner.mkdir(parents=True, exist_ok=True)
    _copy(source, target)
    if inner != target:
        _copy(sentence.transformer, inner)
    kind = jnp.result_type(*tensors.values()).name
    written = {**config, "architectures": [family.architecture], "dtype": kind}
    written.pop("torch_dtype", None)
    write_bytes_atomic(inner / "config.json", (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode())
    write_tensors(inner / WEIGHTS, tensors)


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    for pattern in _COPIED:
        for file in source.glob(pattern):
            relative = file.relative_to(source)
            if file.is_file() and not any(
                relative.match(left_out) for left_out in _LEFT_OUT if len(relative.parts) == 1
            ):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / relative)
