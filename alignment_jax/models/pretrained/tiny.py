"""A checkpoint of a few kilobytes with random weights, for examples and tests without a download."""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np

from alignment_jax.core.storage import write_bytes_atomic
from alignment_jax.models.pretrained.families import bert
from alignment_jax.models.pretrained.weights import WEIGHTS, write_tensors

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
