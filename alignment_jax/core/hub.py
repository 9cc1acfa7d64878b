"""Finds the files of a model: a folder, or the local cache of the Hugging Face hub. No pickles, no remote code."""

from __future__ import annotations

import hashlib
import pathlib

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.optional import require

# Weights as safetensors, settings and vocabularies; never *.bin, *.pt (pickles) or *.py (code).
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]


def model_folder(name: str, *, download: bool = False, otherwise: str = "add --download") -> pathlib.Path:
    """The folder that holds a model's files.

    Args:
      name: a path, or a name on the hub such as "facebook/dinov2-base".
      download: download missing files.
      otherwise: what to do for a model that is not in the cache, for the message.

    Raises:
      ConfigError: there is no such folder, and the model is not in the cache or cannot be downloaded.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")):
        raise ConfigError(f"{name}: no such folder")
    hub = require("huggingface_hub", extra="pretrained", purpose="find models")
    try:
        return pathlib.Path(hub.snapshot_download(name, allow_patterns=_WANTED, local_files_only=not download))
    except Exception as error:  # the errors of the hub and its transport have no common base class
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        hint = f"it could not be downloaded ({reason})"
        if not download:
            hint = f"neither a folder nor a model in the local cache; give a folder, or {otherwise}"
        raise ConfigError(f"{name}: {hint}") from error


def weights_digest(folder: pathlib.Path) -> str:
    """blake2b of the settings and weights of a model, which determine its vectors."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".txt", ".model") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
