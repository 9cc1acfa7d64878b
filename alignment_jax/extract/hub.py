"""Finds the files of a model: a folder, or the local cache of the Hugging Face hub. No pickles, no remote code."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

from alignment_jax.core.errors import AlignmentError, ConfigError
from alignment_jax.core.optional import require

# Weights as safetensors, settings and vocabularies; never *.bin, *.pt (pickles) or *.py (code).
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]


def model_folder(name: str, *, download: bool) -> pathlib.Path:
    """The folder that holds a model's files.

    Args:
      name: a path, or a name on the hub such as "facebook/dinov2-base".
      download: download missing files.

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
            hint = "neither a folder nor a model in the local cache; give a folder, or add --download"
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


def identity_of(folder: pathlib.Path, *, pooling: str, prefix: str = "") -> dict[str, Any]:
    """`Encoder.identity` of a folder's model, the same in JAX and in PyTorch, so that either can finish a file."""
    return {"weights": weights_digest(folder), "pooling": pooling, "prefix": prefix}


@contextlib.contextmanager
def one_line_errors(name: str, doing: str) -> Iterator[None]:
    """Turns errors of the libraries into a ConfigError of one line that names the model."""
    try:
        yield
    except AlignmentError:
        raise
    except Exception as error:  # OSError, ValueError, KeyError, SafetensorError, ...
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{name}: {doing} ({type(error).__name__}: {reason})") from error
