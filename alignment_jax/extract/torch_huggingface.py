"""Vision and text models in PyTorch, by transformers.

The default vector: of models of both sides (CLIP, SigLIP) the projected features; of DINOv2 and the vision towers of
CLIP and SigLIP the pooled output; of other vision models the class token; of text models the mean over tokens, or the
class token if the model's files ask for it (BGE). Weights are read only from safetensors; remote code is never run.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.hub import model_folder
from alignment_jax.core.optional import require
from alignment_jax.extract.encoders import Encoder, Options
from alignment_jax.extract.hub import identity_of, one_line_errors
from alignment_jax.extract.poolings import image_pooling, text_pooling


def open_image_encoder(name: str, options: Options) -> Encoder:
    """An image encoder; see `encoders.open_encoder`."""
    model, missing, folder, library = _load(name, options)
    with one_line_errors(f"hf:{name}", "its image processor cannot be loaded"):
        processor = library.AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    both_sides = hasattr(model, "get_image_features")
    kind = model.config.model_type
    pooling = image_pooling(kind, options.pooling, both_sides=both_sides, where=f"hf:{name}")
    _check_weights(name, missing, pooling)
    torch = _torch()

    def encode(images: Sequence[np.ndarray]) -> np.ndarray:
        inputs = processor(images=list(images), return_tensors="pt").to(model.device)
        with torch.inference_mode():
            outputs = model.get_image_features(**inputs) if pooling == "features" else model(**inputs)
            return _numpy(_pooled(name, outputs, pooling, mask=None))

    return Encoder(encode, identity_of(folder, pooling=pooling))


def open_text_encoder(name: str, options: Options) -> Encoder:
    """A text encoder; see `encoders.open_encoder`."""
    model, missing, folder, library = _load(name, options)
    with one_line_errors(f"hf:{name}", "its tokenizer cannot be loaded"):
        tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    both_sides = hasattr(model, "get_text_features")
    config = getattr(model.config, "text_config", model.config)
    # The position table limits the length, even if the tokenizer has a larger limit or none.
    longest = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
    if "roberta" in model.config.model_type:  # its positions start after the padding id
        longest = min(longest, config.max_position_embeddings - config.pad_token_id - 1)
    pooling = text_pooling(folder, options.pooling, both_sides=both_sides, where=f"hf:{name}")
    _check_weights(name, missing, pooling)
    # SigLIP was trained with padding to one length and reads the last position.
    padding: bool | str = "max_length" if model.config.model_type.startswith("siglip") else True
    torch = _torch()
    takes: tuple[str, ...] | None = ("input_ids", "attention_mask") if both_sides else None
    if model.config.model_type.startswith("siglip"):
        takes = ("input_ids",)

    def encode(texts: Sequence[str]) -> np.ndarray:
        texts = [options.prefix + text for text in texts]
        inputs = tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        inputs = {key: x.to(model.device) for key, x in inputs.items() if takes is None or key in takes}
        with torch.inference_mode():
            outputs = model.get_text_features(**inputs) if pooling == "features" else model(**inputs)
            return _numpy(_pooled(name, outputs, pooling, mask=inputs.get("attention_mask")))

    return Encoder(encode, identity_of(folder, pooling=pooling, prefix=options.prefix))


def pick_device(wanted: str) -> str:
    """A PyTorch device; for "auto" a GPU if there is one.

    Raises:
      ConfigError: PyTorch cannot use the device.
    """
    torch = _torch()
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    with one_line_errors(f"--device={wanted}", "PyTorch cannot use it"):
        torch.zeros(1, device=wanted)
    return wanted


def _torch() -> Any:
    return require("torch", extra="encoders", purpose="run an encoder")


def _load(name: str, options: Options) -> tuple[Any, list[str], pathlib.Path, Any]:
    """(model, names of missing weights, its folder, the library)."""
    library = require("transformers", extra="encoders", purpose="run hf: encoders")
    device = pick_device(options.device)
    folder = model_folder(name, download=options.download)
    quiet(library)
    with one_line_errors(f"hf:{name}", "not a model that transformers can load from safetensors"):
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # AutoModel would load a tower without its projection.
        named = next((c for c in config.architectures or () if c.endswith("WithProjection")), "AutoModel")
        model, report = getattr(library, named).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
        )
    return model.eval().to(device), sorted(report["missing_keys"]), folder, library


def quiet(library: Any) -> None:
    """Turns off progress bars and messages of the library."""
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()


def _check_weights(name: str, missing: list[str], pooling: str) -> None:
    """Raises ConfigError for missing weights, which the library would initialise at random."""
    needed = [key for key in missing if "pooler" not in key or pooling == "pooler"]
    if needed:
        raise ConfigError(f"hf:{name}: its files lack {len(needed)} weights, first {needed[0]}; use another model")


def _pooled(name: str, outputs: Any, pooling: str, mask: Any) -> Any:
    """[k, width] from the outputs of the model."""
    for key in ("image_embeds", "text_embeds"):
        if getattr(outputs, key, None) is not None:
            return outputs[key]
    if pooling in ("features", "pooler"):
        found = getattr(outputs, "pooler_output", None)
        if found is None:
            found = outputs if pooling == "features" else None
        if found is None:
            raise ConfigError(f"hf:{name}: the model has no pooled output; set its pooling to cls or mean")
        return found.flatten(1)
    hidden = outputs.last_hidden_state
    if hidden.ndim == 4:  # feature maps of a convolutional network
        return hidden.mean((2, 3))
    if pooling == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(1)
    weight = mask[..., None].to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def _numpy(x: Any) -> np.ndarray:
    return x.float().cpu().numpy()
