"""BERT (Devlin et al. 2019) and all that share its layers: MiniLM, BGE, E5, GTE."""

from __future__ import annotations

import functools

from alignment_jax.core.errors import ConfigError
from alignment_jax.models.pretrained.families.family import Checkpoint, Config, Family, layers_of, size
from alignment_jax.models.pretrained.text import TextSpec, TextTower
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.weights import Weight, linear, norm

DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def build(checkpoint: Checkpoint, numerics: Numerics, *, defaults: Config, count_positions: bool = False) -> TextTower:
    """The text tower of BERT and RoBERTa."""
    config = {**defaults, **checkpoint.config}
    if config.get("is_decoder") or config.get("position_embedding_type", "absolute") != "absolute":
        raise ConfigError("config.json: only encoders with absolute positions are supported; use another checkpoint")
    spec = TextSpec(
        layers_of(config, norm="post"),
        vocabulary=size(config, "vocab_size"),
        positions=size(config, "max_position_embeddings"),
        padding=config["pad_token_id"] or 0,
        count_positions=count_positions,
        token_types=size(config, "type_vocab_size"),
        norm_embeddings=True,
        poolings=checkpoint.sentence.poolings,
        pooler="pooler.dense.weight" in checkpoint.names,
        normalize=checkpoint.sentence.normalize,
    )
    return TextTower(spec, numerics)


_LAYER = "encoder.layer.{layer}"
WEIGHTS = (
    Weight("words", "embeddings.word_embeddings.weight"),
    Weight("positions", "embeddings.position_embeddings.weight"),
    Weight("token_types", "embeddings.token_type_embeddings.weight"),
    *norm("embedding_norm", "embeddings.LayerNorm"),
    *(
        one
        for name in ("query", "key", "value")
        for one in linear(f"layers/attention/{name}", f"{_LAYER}.attention.self.{name}")
    ),
    *linear("layers/attention/out", f"{_LAYER}.attention.output.dense"),
    *norm("layers/norm1", f"{_LAYER}.attention.output.LayerNorm"),
    *linear("layers/mlp/up", f"{_LAYER}.intermediate.dense"),
    *linear("layers/mlp/down", f"{_LAYER}.output.dense"),
    *norm("layers/norm2", f"{_LAYER}.output.LayerNorm"),
    *linear("pooler", "pooler.dense"),
)
IGNORED = (r"embeddings\.(position_ids|token_type_ids)", r"cls\..*", r"classifier\..*", r"lm_head\..*")

BERT = Family(
    functools.partial(build, defaults=DEFAULTS),
    lambda config: WEIGHTS,
    "BertModel",
    prefixes=("bert.",),
    ignored=IGNORED,
)
