"""Model families by the `model_type` of config.json. A new family is one file here and one line below."""

from __future__ import annotations

from alignment_jax.models.pretrained.families import bert, clip, dinov2, siglip, vit, xlm_roberta
from alignment_jax.models.pretrained.families.family import Family

FAMILIES: dict[str, Family] = {
    "bert": bert.BERT,
    "clip": clip.CLIP,
    "clip_text_model": clip.CLIP_TEXT,
    "clip_vision_model": clip.CLIP_VISION,
    "dinov2": dinov2.DINOV2,
    "dinov2_with_registers": dinov2.DINOV2_WITH_REGISTERS,
    "siglip": siglip.SIGLIP,
    "siglip_text_model": siglip.SIGLIP_TEXT,
    "siglip_vision_model": siglip.SIGLIP_VISION,
    "vit": vit.VIT,
    "xlm-roberta": xlm_roberta.XLM_ROBERTA,
}

__all__ = ["FAMILIES", "Family"]
