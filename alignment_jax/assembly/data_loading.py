"""Loads the data set of a configuration."""

from __future__ import annotations

import json

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.classifier import is_classifier
from alignment_jax.core.errors import ConfigError
from alignment_jax.train import processes

# Evenly spaced rows of a memory-mapped array that enter the fingerprint compared between processes.
_PROBE_ROWS = 256


def load_data(config: ConfigDict, spec: str) -> data.PairSource:
    """Loads a data set with the splits that it declares.

    Args:
      config: `data_seed`, `input.on_bad_sample` and `model.name` are read.
      spec: of the data set.
    """
    source = data.load(spec, seed=config.data_seed, on_bad_sample=config.input.on_bad_sample)
    if is_classifier(config.model):
        return source
    return data.complete_samples(source, on_bad_sample=config.input.on_bad_sample)


def load_source(config: ConfigDict) -> data.PairSource:
    """Loads `config.data` and divides it into train, val and test where it declares no splits.

    Raises:
      ConfigError: the data set has no training split.
    """
    split = data.with_splits(load_data(config, config.data), seed=config.data_seed)
    if "train" not in split.splits:
        raise ConfigError(f"{config.data}: no sample is in the split 'train'; training needs one")
    return split


def check_same_on_all_processes(source: data.PairSource) -> None:
    """Raises RunError when another process loaded other data."""
    if processes.several():
        processes.check_equal("data set", json.dumps(data.fingerprints(source, probe=_PROBE_ROWS)))
