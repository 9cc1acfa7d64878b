"""Optional packages, imported where they are used and asked for by name when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from alignment_jax.core.errors import MissingPackageError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports `module`, or says in one line which extra brings it.

    Args:
      module: dotted module name, as in an import statement.
      extra: the extra of this package that installs it (`train`, `tfds`, `encoders`).
      purpose: what it is needed for, as the end of "... is needed to".

    Returns:
      The module.

    Raises:
      MissingPackageError: the package is not installed.

    >>> require("math", extra="train", purpose="count").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package that is present but lacks one of its own dependencies should say so itself.
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingPackageError(
            f"the package {error.name!r} is needed to {purpose}: pip install 'alignment_jax[{extra}]'"
        ) from error
