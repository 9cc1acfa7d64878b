"""The vector of a model, for JAX and PyTorch alike: by its kind, its files, and what the user asks for."""

from __future__ import annotations

import json
import pathlib

from alignment_jax.core.errors import ConfigError
from alignment_jax.extract.hub import one_line_errors

# Projected features of models of both sides; the pooling of sentence-transformers' files.
FEATURES, MODULES = "features", "modules.json"
# Vision models whose authors use the pooled output as the image vector.
_POOLED = ("dinov2", "dinov3", "siglip", "clip", "convnext", "resnet")


def image_pooling(kind: str, asked: str, *, both_sides: bool, where: str) -> str:
    """The pooling of a vision model: "features", "pooler", "cls" or "mean".

    Args:
      kind: `model_type` of its config.json.
      asked: `Options.pooling`.
      both_sides: it encodes texts, too (CLIP, SigLIP).
      where: the encoder's name, for messages.

    Raises:
      ConfigError: models of both sides have projected features alone.

    >>> image_pooling("vit", "auto", both_sides=False, where="")
    'cls'
    """
    if both_sides:
        return _features(asked, "--image_pooling", where)
    if asked == "auto":
        return "pooler" if kind.startswith(_POOLED) else "cls"
    return asked


def text_pooling(folder: pathlib.Path, asked: str, *, both_sides: bool, where: str) -> str:
    """The pooling of a text model: "features", "pooler", "cls" or "mean".

    Args:
      folder: of the model; sentence-transformers' files there decide between the class token and the mean.
      asked, both_sides, where: see `image_pooling`.

    Raises:
      ConfigError: see `image_pooling`; or the file of the pooling is damaged.
    """
    if both_sides:
        return _features(asked, "--text_pooling", where)
    if asked != "auto":
        return asked
    path = folder / "1_Pooling" / "config.json"
    if path.is_file():
        with one_line_errors(str(path), "not readable"):
            settings = json.loads(path.read_text(encoding="utf-8"))
            cls = settings.get("pooling_mode") == "cls" or settings.get("pooling_mode_cls_token")
        return "cls" if cls else "mean"
    return "mean"


def _features(asked: str, flag: str, where: str) -> str:
    if asked != "auto":
        raise ConfigError(f"{where}: it has projected features; remove {flag}")
    return FEATURES
