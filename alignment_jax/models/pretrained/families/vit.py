"""ViT (Dosovitskiy et al. 2021). A classifier is left out; a pooler gives `pooled`; `features` is the class token."""

from __future__ import annotations

from alignment_jax.core.errors import ConfigError
from alignment_jax.models.pretrained.families.family import Checkpoint, Family, grid_and_patch, layers_of, size
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.vision import ImageSpec, ImageTower
from alignment_jax.models.pretrained.weights import Weight, convolution, linear, norm

DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
}


def embeddings() -> list[Weight]:
    """Embeddings of ViT and DINOv2."""
    return [
        Weight("class_token", "embeddings.cls_token", "ones+2"),
        *convolution("patches", "embeddings.patch_embeddings.projection"),
        Weight("positions", "embeddings.position_embeddings", "ones+1"),
    ]


def attention(layer: str) -> list[Weight]:
    """Attention of ViT and DINOv2."""
    return [
        *(
            one
            for name in ("query", "key", "value")
            for one in linear(f"layers/attention/{name}", f"{layer}.attention.attention.{name}")
        ),
        *linear("layers/attention/out", f"{layer}.attention.output.dense"),
    ]


def _build(checkpoint: Checkpoint, numerics: Numerics) -> ImageTower:
    config = {**DEFAULTS, **checkpoint.config}
    pooler = "pooler.dense.weight" in checkpoint.names
    if pooler and config.get("pooler_act", "tanh") != "tanh":
        raise ConfigError(f"config.json: no pooler_act {config['pooler_act']!r}, only 'tanh'")
    spec = ImageSpec(
        layers_of(config, qkv_bias=bool(config["qkv_bias"])),
        *grid_and_patch(config),
        channels=size(config, "num_channels"),
        pooler=(config.get("pooler_output_size") or size(config, "hidden_size")) if pooler else 0,
    )
    return ImageTower(spec, numerics)


_LAYER = "encoder.layer.{layer}"
_WEIGHTS = (
    *embeddings(),
    *norm("layers/norm1", f"{_LAYER}.layernorm_before"),
    *attention(_LAYER),
    *norm("layers/norm2", f"{_LAYER}.layernorm_after"),
    *linear("layers/mlp/up", f"{_LAYER}.intermediate.dense"),
    *linear("layers/mlp/down", f"{_LAYER}.output.dense"),
    *norm("norm", "layernorm"),
    *linear("pooler", "pooler.dense"),
)
VIT = Family(
    _build,
    lambda config: _WEIGHTS,
    "ViTModel",
    prefixes=("vit.",),
    ignored=(r"classifier\..*", r"embeddings\.mask_token", r"decoder\..*"),
)
