"""Loads a configuration file without the command line."""

from __future__ import annotations

import runpy

from ml_collections import ConfigDict

from alignment_jax.config.shipped import find_config, shipped
from alignment_jax.core.errors import ConfigError


def load(path: str) -> ConfigDict:
    """The configuration that `--config=path` gives on the command line. The file's code is run.

    Args:
      path: `FILE` or `FILE:ARGUMENTS`; a shipped file is found from any folder, as `configs/NAME.py` or `NAME.py`.

    Raises:
      ConfigError: no such file, it has no `get_config`, or it does not take these arguments.

    >>> config = load("configs/flickr8k_frozen.py:method=vals,data=embeddings:mine.npz")
    >>> config.weighting.signal, config.data
    ('variance', 'embeddings:mine.npz')
    """
    name, _, arguments = path.partition(":")
    file = find_config(name)
    if file is None:
        raise ConfigError(f"there is no file {name!r}; this package includes {', '.join(shipped())}")
    get_config = runpy.run_path(file).get("get_config")
    if get_config is None:
        raise ConfigError(f"{name}: it defines no function get_config")
    return get_config(arguments or None)
