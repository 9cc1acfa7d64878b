"""`onnx:FILE.onnx`: an image or text encoder exported to ONNX, run by ONNX Runtime without PyTorch.

An image encoder may have a `preprocessor_config.json` (of transformers) in its folder for resizing and normalisation;
without it, the centre of an image is scaled to the input size of the model and normalised with the mean and standard
deviation of ImageNet. A text encoder needs its `tokenizer.json` in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.optional import require
from alignment_jax.extract.encoders import Encoder, Options
from alignment_jax.extract.hub import one_line_errors

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Names of outputs that are the vector, in common exporters.
_VECTORS = ("image_embeds", "text_embeds", "sentence_embedding", "embedding", "embeddings", "pooler_output")
_LONGEST = 512


def open_image_encoder(name: str, options: Options) -> Encoder:
    """An image encoder; see `encoders.open_encoder`."""
    path, session = _session(name)
    (first, *more) = session.get_inputs()
    if more or len(first.shape) != 4:
        raise ConfigError(f"onnx:{name}: an image encoder needs one input of four axes, this has {_shapes(session)}")
    settings = {**_IMAGENET, **_json(path.with_name("preprocessor_config.json"))}
    channels_last = first.shape[3] == 3
    own = first.shape[1:3] if channels_last else first.shape[2:4]
    height, width, resize = _sizes(name, settings, own)
    mean, std = (np.array(settings[key], np.float32) for key in ("image_mean", "image_std"))
    scale = np.float32(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else np.float32(1)
    if not settings.get("do_normalize", True):
        mean, std = np.zeros(3, np.float32), np.ones(3, np.float32)
    image_module = require("PIL.Image", extra="encoders", purpose="resize images")

    def prepare(image: np.ndarray) -> np.ndarray:
        pixels = _resized(image_module.fromarray(image), height, width, resize, settings.get("resample", 3))
        return (np.asarray(pixels, np.float32) * scale - mean) / std

    def encode(images: Sequence[np.ndarray]) -> np.ndarray:
        batch = np.stack([prepare(image) for image in images])
        batch = batch if channels_last else batch.transpose(0, 3, 1, 2)
        with one_line_errors(f"onnx:{name}", "the model rejects its input"):
            return _vectors(name, session, {first.name: np.ascontiguousarray(batch)}, options.pooling, None)

    return Encoder(encode, {**_identity(path, options), "size": [height, width]})


def open_text_encoder(name: str, options: Options) -> Encoder:
    """A text encoder; see `encoders.open_encoder`."""
    path, session = _session(name)
    file = path.with_name("tokenizer.json")
    if not file.is_file():
        raise ConfigError(f"onnx:{name}: no tokenizer.json in its folder")
    with one_line_errors(str(file), "not a tokenizer"):
        library = require("tokenizers", extra="encoders", purpose="run onnx: text encoders")
        tokenizer = library.Tokenizer.from_file(str(file))
    settings = _json(path.with_name("tokenizer_config.json"))
    tokenizer.enable_truncation(min(_LONGEST, int(settings.get("model_max_length", _LONGEST))))
    padding = tokenizer.token_to_id(str(settings.get("pad_token", "[PAD]"))) or 0
    tokenizer.enable_padding(pad_id=padding)
    known = {"input_ids", "attention_mask", "token_type_ids"}
    names = [x.name for x in session.get_inputs()]
    if not set(names) <= known or "input_ids" not in names:
        raise ConfigError(f"onnx:{name}: a text encoder takes {', '.join(sorted(known))}; this has {_shapes(session)}")

    def encode(texts: Sequence[str]) -> np.ndarray:
        found = tokenizer.encode_batch([options.prefix + text for text in texts])
        inputs = {
            "input_ids": np.array([x.ids for x in found], np.int64),
            "attention_mask": np.array([x.attention_mask for x in found], np.int64),
            "token_type_ids": np.array([x.type_ids for x in found], np.int64),
        }
        with one_line_errors(f"onnx:{name}", "the model rejects its input"):
            chosen = {key: inputs[key] for key in names}
            return _vectors(name, session, chosen, options.pooling, inputs["attention_mask"])

    return Encoder(encode, _identity(path, options))


def _session(name: str) -> tuple[pathlib.Path, Any]:
    path = pathlib.Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"onnx:{name}: no such file")
    runtime = require("onnxruntime", extra="encoders", purpose="run onnx: encoders")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    with one_line_errors(f"onnx:{name}", "not a model that ONNX Runtime can load"):
        return path, runtime.InferenceSession(str(path), settings, providers=runtime.get_available_providers())


def _shapes(session: Any) -> str:
    return ", ".join(f"{x.name} {x.shape}" for x in session.get_inputs())


def _json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with one_line_errors(str(path), "not a JSON object"):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _sizes(name: str, settings: dict[str, Any], own: Sequence[Any]) -> tuple[int, int, int | None]:
    """(height, width, shorter side before the centre crop; None: resize to both without a crop)."""
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    if isinstance(size, int):
        size = {"shortest_edge": size}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    height, width = (int(x) if isinstance(x, int) else 0 for x in own)
    if not crop and "height" in size:
        return int(size["height"]), int(size["width"]), None
    height, width = int(crop.get("height", height)), int(crop.get("width", width))
    shorter = int(size.get("shortest_edge", 0)) or min(height, width)
    if not shorter:
        raise ConfigError(
            f"onnx:{name}: its input has no fixed size; add a preprocessor_config.json with "
            '"size": {"height": ..., "width": ...} to its folder'
        )
    return height or shorter, width or shorter, shorter


def _resized(image: Any, height: int, width: int, shorter: int | None, resample: int) -> Any:
    if shorter is None:
        return image.resize((width, height), resample)
    scale = shorter / min(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), resample)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _vectors(
    name: str, session: Any, inputs: dict[str, np.ndarray], pooling: str, mask: np.ndarray | None
) -> np.ndarray:
    names = [x.name for x in session.get_outputs()]
    wanted = [x for x in _VECTORS if x in names] if pooling in ("auto", "pooler") else []
    (found,) = session.run([wanted[0] if wanted else names[0]], inputs)
    if found.ndim == 2:
        return found
    if found.ndim == 4:  # feature maps of a convolutional network; the larger axes are spatial
        return found.mean((2, 3)) if found.shape[1] > found.shape[3] else found.mean((1, 2))
    if found.ndim != 3:
        raise ConfigError(
            f"onnx:{name}: its output has shape {list(found.shape)}; it must be [n, width] or [n, words, width]"
        )
    if pooling == "cls":
        return found[:, 0]
    if mask is None:
        return found.mean(1)
    weight = mask[..., None].astype(found.dtype)
    return (found * weight).sum(1) / np.maximum(weight.sum(1), 1)


def _identity(path: pathlib.Path, options: Options) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    # Weights over 2 GB are in separate files.
    for file in sorted({path, *path.parent.glob(f"{path.name}?data*"), *path.parent.glob("*.json")}):
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return {"weights": digest.hexdigest(), "pooling": options.pooling, "prefix": options.prefix}
