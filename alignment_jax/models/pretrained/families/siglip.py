"""SigLIP (Zhai et al. 2023) and SigLIP 2 at a fixed resolution (Tschannen et al. 2025): both towers, or one of them.

The files of both say `siglip`; they differ in vocabulary and tokenizer. SigLIP 2 for any aspect ratio (`siglip2`) is
another model, and no part of this family.
"""

from __future__ import annotations

from alignment_jax.core.errors import ConfigError
from alignment_jax.models.pretrained.families.clip import IGNORED, part, text_embeddings, transformer
from alignment_jax.models.pretrained.families.family import Checkpoint, Config, Family, grid_and_patch, layers_of, size
from alignment_jax.models.pretrained.image_text import ImageText
from alignment_jax.models.pretrained.text import TextSpec, TextTower
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.vision import ImageSpec, ImageTower
from alignment_jax.models.pretrained.weights import Weight, below, convolution, linear, norm

_LAYERS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
TEXT = {**_LAYERS, "vocab_size": 32000, "max_position_embeddings": 64, "projection_size": None}
VISION = {**_LAYERS, "num_channels": 3, "image_size": 224, "patch_size": 16, "vision_use_head": True}

VISION_WEIGHTS = [
    *convolution("patches", "embeddings.patch_embedding"),
    Weight("positions", "embeddings.position_embedding.weight"),
    *transformer("layers", "encoder"),
    *norm("norm", "post_layernorm"),
    Weight("head/probe", "head.probe", "ones+1"),
    *(
        one
        for index, ours in enumerate(("query", "key", "value"))
        for one in (
            Weight(f"head/attention/{ours}/kernel", "head.attention.in_proj_weight", "linear", (index, 3)),
            Weight(f"head/attention/{ours}/bias", "head.attention.in_proj_bias", "same", (index, 3)),
        )
    ),
    *linear("head/attention/out", "head.attention.out_proj"),
    *norm("head/norm", "head.layernorm"),
    *linear("head/mlp/up", "head.mlp.fc1"),
    *linear("head/mlp/down", "head.mlp.fc2"),
]
TEXT_WEIGHTS = [
    *text_embeddings("embeddings"),
    *transformer("layers", "encoder"),
    *norm("norm", "final_layer_norm"),
    *linear("projection", "head"),
]


def _image_tower(config: Config, numerics: Numerics) -> ImageTower:
    if not config["vision_use_head"]:
        raise ConfigError("config.json: vision_use_head false is not supported: the tower has no embedding")
    spec = ImageSpec(
        layers_of(config),
        *grid_and_patch(config),
        channels=size(config, "num_channels"),
        class_token=False,
        pooling="attention",
    )
    return ImageTower(spec, numerics)


def _text_tower(config: Config, numerics: Numerics) -> TextTower:
    spec = TextSpec(
        layers_of(config),
        vocabulary=size(config, "vocab_size"),
        positions=size(config, "max_position_embeddings"),
        projection=config["projection_size"] or size(config, "hidden_size"),
        projection_bias=True,
    )
    return TextTower(spec, numerics)


def _both(checkpoint: Checkpoint, numerics: Numerics) -> ImageText:
    return ImageText(
        _image_tower(part(checkpoint.config, "vision", VISION), numerics),
        _text_tower(part(checkpoint.config, "text", TEXT), numerics),
        logit_bias=True,
    )


def _vision(checkpoint: Checkpoint, numerics: Numerics) -> ImageTower:
    return _image_tower({**VISION, **checkpoint.config}, numerics)


def _text(checkpoint: Checkpoint, numerics: Numerics) -> TextTower:
    return _text_tower({**TEXT, **checkpoint.config}, numerics)


_BOTH_WEIGHTS = (
    *below(VISION_WEIGHTS, "image/", "vision_model."),
    *below(TEXT_WEIGHTS, "text/", "text_model."),
    Weight("logit_scale", "logit_scale", "ones+1"),
    Weight("logit_bias", "logit_bias", "ones+1"),
)
SIGLIP = Family(
    _both,
    lambda config: _BOTH_WEIGHTS,
    "SiglipModel",
    prefixes=("siglip.",),
    ignored=IGNORED,
)
SIGLIP_VISION = Family(
    _vision, lambda config: VISION_WEIGHTS, "SiglipVisionModel", prefixes=("vision_model.",), ignored=IGNORED
)
SIGLIP_TEXT = Family(_text, lambda config: TEXT_WEIGHTS, "SiglipTextModel", prefixes=("text_model.",), ignored=IGNORED)
