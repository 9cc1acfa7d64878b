"""The identity of a model's files, and errors of the libraries that read them."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from alignment_jax.core.errors import AlignmentError, ConfigError
from alignment_jax.core.hub import weights_digest


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
