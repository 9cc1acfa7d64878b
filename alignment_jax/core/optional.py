"""Imports of optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType

from alignment_jax.core.errors import MissingPackageError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports `module`; the error for a missing one names the extra that installs it.

    Args:
      module: dotted module name, as in an import statement.
      extra: the extra of this package that installs it (`train`, `tfds`, `encoders`).
      purpose: completes "the package ... is needed to".

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
        # An installed package without one of its dependencies: its own error is more precise.
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingPackageError(
            f"the package {error.name!r} is needed to {purpose}: pip install 'alignment_jax[{extra}]'"
        ) from error
