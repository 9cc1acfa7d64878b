"""Checkpoints with random weights, for examples, tests and benchmarks without a download."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.storage import write_bytes_atomic
from alignment_jax.models.pretrained.families import FAMILIES, bert
from alignment_jax.models.pretrained.families.family import Checkpoint
from alignment_jax.models.pretrained.pooling import SentenceModules
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.weights import WEIGHTS, tensors_of, write_tensors

_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "dog", "cat")
_SPECIAL = {"[CLS]": 2, "[SEP]": 3}


def tiny_folder(folder: str | os.PathLike[str], *, seed: int = 0) -> pathlib.Path:
    """Writes a BERT of width 8 with one layer and eight words ("a", "red", "dog", "cat"), and returns its folder.

    >>> import tempfile
    >>> sorted(file.name for file in tiny_folder(tempfile.mkdtemp()).iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    target, rng = pathlib.Path(folder), np.random.default_rng(seed)
    width, hidden, positions = 8, 16, 12
    config = {
        "model_type": "bert",
        "vocab_size": len(_WORDS),
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": hidden,
        "max_position_embeddings": positions,
    }
    sizes = {"words": (len(_WORDS), width), "positions": (positions, width), "token_types": (2, width)}

    def shape(path: str) -> tuple[int, ...]:
        if path in sizes:
            return sizes[path]
        wide = path.startswith("layers/mlp/up")
        if path.endswith("kernel"):
            return (
                (width, hidden) if wide else (hidden, width) if path.startswith("layers/mlp/down") else (width, width)
            )
        return (hidden,) if wide else (width,)

    tensors = {
        one.name.format(layer=0): np.ascontiguousarray(
            one.to_file((one.path.endswith("scale") + 0.3 * rng.standard_normal(shape(one.path))).astype(np.float32))
        )
        for one in bert.WEIGHTS
        if not one.path.startswith("pooler")
    }
    write_tensors(target / WEIGHTS, tensors)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": k, "content": _WORDS[k], "special": True, "normalized": False,
             "single_word": False, "lstrip": False, "rstrip": False}
            for k in range(4)
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {k: {"id": k, "ids": [v], "tokens": [k]} for k, v in _SPECIAL.items()},
        },
        "model": {"type": "WordLevel", "vocab": {w: k for k, w in enumerate(_WORDS)}, "unk_token": "[UNK]"},
    }  # fmt: skip
    files = {"config": config, "tokenizer": tokenizer, "tokenizer_config": {"pad_token": "[PAD]"}}
    for name, content in files.items():
        write_bytes_atomic(target / f"{name}.json", json.dumps(content, indent=1).encode())
    return target


def random_folder(
    folder: str | os.PathLike[str], config: Mapping[str, Any], *, files: Mapping[str, Any] | None = None, seed: int = 0
) -> pathlib.Path:
    """Writes a checkpoint of any size and family with random weights, and returns its folder.

    Args:
      folder: created if it does not exist.
      config: content of config.json; `model_type` is a key of `FAMILIES`.
      files: further JSON files by name, such as "preprocessor_config".
      seed: of the weights.

    >>> import tempfile
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> vit = {"model_type": "vit", **sizes, "image_size": 28, "patch_size": 14}
    >>> processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 28, "width": 28}}
    >>> made = random_folder(tempfile.mkdtemp(), vit, files={"preprocessor_config": processor})
    >>> sorted(file.name for file in made.iterdir())
    ['config.json', 'model.safetensors', 'preprocessor_config.json']
    """
    target, family = pathlib.Path(folder), FAMILIES[config["model_type"]]
    target.mkdir(parents=True, exist_ok=True)
    module = family.build(Checkpoint(config, frozenset(), SentenceModules(target, ("mean",), False)), Numerics())
    example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), module.example())
    params = jax.jit(module.init)(jax.random.key(seed), *example)["params"]
    write_tensors(target / WEIGHTS, tensors_of(params, family.weights(config), name=family.saved_prefix))
    for name, content in {"config": dict(config), **(files or {})}.items():
        write_bytes_atomic(target / f"{name}.json", json.dumps(content, indent=1).encode())
    return target
