"""CLIP (Radford et al. 2021): both towers, or one of them; quick GELU or GELU by `hidden_act`."""

from __future__ import annotations

from typing import Any

from alignment_jax.models.pretrained.families.family import Checkpoint, Config, Family, grid_and_patch, layers_of, size
from alignment_jax.models.pretrained.image_text import ImageText
from alignment_jax.models.pretrained.text import TextSpec, TextTower
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.vision import ImageSpec, ImageTower
from alignment_jax.models.pretrained.weights import Weight, below, convolution, linear, norm

# Values that a config.json may leave out.
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
    "projection_dim": 512,
}
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 512,
}


def part(config: Config, name: str, defaults: Config) -> Config:
    """The settings of one tower in a config.json of both."""
    settings, twice = config.get(f"{name}_config") or {}, config.get(f"{name}_config_dict")
    # Old files hold them twice; transformers prefers the second, its defaults included.
    return {**defaults, **settings} if twice is None else {**settings, **defaults, **twice}


def transformer(path: str, name: str) -> list[Weight]:
    """The layers of CLIP and SigLIP."""
    layer = f"{name}.layers.{{layer}}"
    return [
        *norm(f"{path}/norm1", f"{layer}.layer_norm1"),
        *norm(f"{path}/norm2", f"{layer}.layer_norm2"),
        *(
            one
            for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj"))
            for one in linear(f"{path}/attention/{ours}", f"{layer}.self_attn.{theirs}")
        ),
        *linear(f"{path}/mlp/up", f"{layer}.mlp.fc1"),
        *linear(f"{path}/mlp/down", f"{layer}.mlp.fc2"),
    ]


def text_embeddings(name: str) -> list[Weight]:
    """The tables of CLIP's and SigLIP's text towers."""
    return [
        Weight("words", f"{name}.token_embedding.weight"),
        Weight("positions", f"{name}.position_embedding.weight"),
    ]


VISION_WEIGHTS = [
    Weight("class_token", "embeddings.class_embedding"),
    *convolution("patches", "embeddings.patch_embedding"),
    Weight("positions", "embeddings.position_embedding.weight"),
    *norm("norm_before", "pre_layrnorm"),
    *transformer("layers", "encoder"),
    *norm("norm", "post_layernorm"),
]
TEXT_WEIGHTS = [*text_embeddings("embeddings"), *transformer("layers", "encoder"), *norm("norm", "final_layer_norm")]
VISION_PROJECTION = linear("projection", "visual_projection")
TEXT_PROJECTION = linear("projection", "text_projection")


def image_tower(config: Config, numerics: Numerics, *, projection: int) -> ImageTower:
    spec = ImageSpec(
        layers_of(config),
        *grid_and_patch(config),
        channels=size(config, "num_channels"),
        patch_bias=False,
        norm_before=True,
        norm_tokens=False,
        projection=projection,
    )
    return ImageTower(spec, numerics)


def text_tower(config: Config, numerics: Numerics, *, projection: int) -> TextTower:
    end: Any = TEXT["eos_token_id"] if config["eos_token_id"] is None else config["eos_token_id"]
    spec = TextSpec(
        layers_of(config, causal=True),
        vocabulary=size(config, "vocab_size"),
        positions=size(config, "max_position_embeddings"),
        end=end[0] if isinstance(end, list) else end,
        projection=projection,
    )
    return TextTower(spec, numerics)


def _both(checkpoint: Checkpoint, numerics: Numerics) -> ImageText:
    config = {"projection_dim": 512, **checkpoint.config}
    width = size(config, "projection_dim")
    return ImageText(
        image_tower(part(config, "vision", VISION), numerics, projection=width),
        text_tower(part(config, "text", TEXT), numerics, projection=width),
    )


def _vision(checkpoint: Checkpoint, numerics: Numerics) -> ImageTower:
    config = {**VISION, **checkpoint.config}
    projected = "visual_projection.weight" in checkpoint.names
    return image_tower(config, numerics, projection=size(config, "projection_dim") if projected else 0)


def _text(checkpoint: Checkpoint, numerics: Numerics) -> TextTower:
    config = {**TEXT, **checkpoint.config}
    projected = "text_projection.weight" in checkpoint.names
    return text_tower(config, numerics, projection=size(config, "projection_dim") if projected else 0)


IGNORED = (r"(.*\.)?embeddings\.position_ids",)

_BOTH_WEIGHTS = (
    *below(VISION_WEIGHTS, "image/", "vision_model."),
    *below(VISION_PROJECTION, "image/", ""),
    *below(TEXT_WEIGHTS, "text/", "text_model."),
    *below(TEXT_PROJECTION, "text/", ""),
    Weight("logit_scale", "logit_scale"),
)
CLIP = Family(
    _both,
    lambda config: _BOTH_WEIGHTS,
    "CLIPModel",
    prefixes=("clip.",),
    ignored=IGNORED,
)
CLIP_VISION = Family(
    _vision,
    lambda config: (*VISION_WEIGHTS, *VISION_PROJECTION),
    "CLIPVisionModelWithProjection",
    prefixes=("vision_model.",),
    saved_prefix=lambda name: name if name.startswith("visual_projection") else f"vision_model.{name}",
    ignored=IGNORED,
)
CLIP_TEXT = Family(
    _text,
    lambda config: (*TEXT_WEIGHTS, *TEXT_PROJECTION),
    "CLIPTextModelWithProjection",
    prefixes=("text_model.",),
    saved_prefix=lambda name: name if name.startswith("text_projection") else f"text_model.{name}",
    ignored=IGNORED,
)
