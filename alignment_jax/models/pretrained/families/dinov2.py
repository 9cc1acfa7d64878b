"""DINOv2 (Oquab et al. 2023), with and without registers (Darcet et al. 2023); MLP or SwiGLU by `use_swiglu_ffn`."""

from __future__ import annotations

from typing import Any

from alignment_jax.models.pretrained.families.family import Checkpoint, Config, Family, grid_and_patch, layers_of, size
from alignment_jax.models.pretrained.families.vit import attention, embeddings
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.vision import ImageSpec, ImageTower
from alignment_jax.models.pretrained.weights import Weight, linear, norm

DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}


def _build(checkpoint: Checkpoint, numerics: Numerics) -> ImageTower:
    registers = checkpoint.config["model_type"] == "dinov2_with_registers"
    config = {**DEFAULTS, "patch_size": 16 if registers else 14, "num_register_tokens": 4, **checkpoint.config}
    hidden = int(size(config, "hidden_size") * config["mlp_ratio"])
    switches: dict[str, Any] = {"hidden": hidden}
    if config["use_swiglu_ffn"]:  # two thirds of the width, to a multiple of 8
        switches = {"hidden": (int(hidden * 2 / 3) + 7) // 8 * 8, "gated": True, "activation": "silu"}
    spec = ImageSpec(
        layers_of(config, qkv_bias=bool(config["qkv_bias"]), layer_scale=True, **switches),
        *grid_and_patch(config),
        channels=size(config, "num_channels"),
        registers=config["num_register_tokens"] if registers else 0,
        mask_token="embeddings.mask_token" in checkpoint.names,
        antialias=registers,
    )
    return ImageTower(spec, numerics)


_LAYER = "encoder.layer.{layer}"
_SHARED = (
    *embeddings(),
    Weight("registers", "embeddings.register_tokens", "ones+1"),
    Weight("mask_token", "embeddings.mask_token", "ones+1"),
    *norm("layers/norm1", f"{_LAYER}.norm1"),
    *attention(_LAYER),
    Weight("layers/scale1", f"{_LAYER}.layer_scale1.lambda1"),
    *norm("layers/norm2", f"{_LAYER}.norm2"),
    Weight("layers/scale2", f"{_LAYER}.layer_scale2.lambda1"),
    *norm("norm", "layernorm"),
)
_MLP = (*linear("layers/mlp/up", f"{_LAYER}.mlp.fc1"), *linear("layers/mlp/down", f"{_LAYER}.mlp.fc2"))
_GATED = (
    *linear("layers/mlp/gate", f"{_LAYER}.mlp.weights_in", (0, 2)),
    *linear("layers/mlp/up", f"{_LAYER}.mlp.weights_in", (1, 2)),
    *linear("layers/mlp/down", f"{_LAYER}.mlp.weights_out"),
)


def _weights(config: Config) -> tuple[Weight, ...]:
    return (*_SHARED, *(_GATED if config.get("use_swiglu_ffn") else _MLP))


_IGNORED = (r"classifier\..*",)
DINOV2 = Family(_build, _weights, "Dinov2Model", prefixes=("dinov2.",), ignored=_IGNORED)
DINOV2_WITH_REGISTERS = Family(
    _build, _weights, "Dinov2WithRegistersModel", prefixes=("dinov2_with_registers.",), ignored=_IGNORED
)
