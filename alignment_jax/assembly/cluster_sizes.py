"""Cluster sizes of samples: from the data set, from its classes, or by K-Means on its texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.memoize import remember
from alignment_jax.train import processes

Sizes = tuple[data.PairSplit, tuple[float, float]]
# Training with MM-TS and the analysis of every method and seed need the clusters of the same texts.
_cluster_sizes = remember(entries=8)(data.cluster_sizes)


def with_cluster_sizes(section: ConfigDict, train: data.PairSplit, *, seed: int) -> Sizes:
    """The training split with a cluster size for every sample, and the smallest and largest of them.

    Args:
      section: `clusters` of the configuration.
      train: the training split.
      seed: of K-Means.

    Raises:
      ConfigError: the data set lacks the configured source.
    """
    if section.count < 0:
        raise ConfigError(f"clusters.count must be at least 0 (0: chosen from the data), got {section.count}")

    def sizes() -> dict[str, Any]:
        split, limits = SOURCES[section.source](section, seed, train)
        return {"cluster_size": split.cluster_size, "cluster_size_b": split.cluster_size_b, "limits": limits}

    found = processes.compute_on_primary(sizes)  # K-Means may converge to other clusters on another processor
    smallest, largest = found.pop("limits")
    return train.replace(**found), (smallest, largest)


def evaluation_sizes(
    section: ConfigDict, train: data.PairSplit, split: data.PairSplit, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frequency, in the training set, of the content of another split: separates rare from frequent samples.

    Args:
      section: `clusters` of the configuration.
      train: the training split.
      split: the split to evaluate.
      seed: of K-Means.

    Returns:
      float32 [M], for each b-item of `split` the size of its cluster, and [N] the sizes of the training samples. Sizes
      given by the data come first, then classes, then K-Means clusters of the training captions. Each other caption
      belongs to the nearest cluster.
    """
    source, owner = section.source, split.b_to_a
    if source == "data" and split.cluster_size_b is not None and train.cluster_size_b is not None:
        return split.cluster_size_b, train.cluster_size_b
    if source != "kmeans" and split.label is not None and train.label is not None:
        counts = np.bincount(train.label, minlength=int(split.label.max()) + 1)
        return counts[split.label][owner].astype(np.float32), counts[train.label].astype(np.float32)
    parts = [column.read(np.arange(len(column))) for column in (train.b, split.b)]
    if train.b.kind == "text":
        # Both splits share one feature space; only the training captions form clusters.
        features = data.caption_features([*parts[0], *parts[1]], seed=seed)
        parts = [features[: len(train.b)], features[len(train.b) :]]
    known = data.mean_by_item(np.asarray(parts[0]), train.b_to_a, len(train.a))
    clusters = _cluster_sizes(known, clusters=section.count or None, seed=seed)
    items = data.mean_by_item(np.asarray(parts[1]), owner, len(split.a))
    return data.assigned_sizes(items, known, clusters)[owner], clusters.size


def _from_data(section: ConfigDict, seed: int, train: data.PairSplit) -> Sizes:
    known = train.cluster_size_b if train.cluster_size_b is not None else train.cluster_size
    if known is not None:
        return train, (float(known.min()), float(known.max()))
    return (_from_labels if train.label is not None else _from_texts)(section, seed, train)


def _from_labels(section: ConfigDict, seed: int, train: data.PairSplit) -> Sizes:
    if train.label is None:
        raise ConfigError("clusters.source is 'label', but this data set has no labels; use kmeans")
    return _with(train, data.class_counts(train.label))


def _from_texts(section: ConfigDict, seed: int, train: data.PairSplit) -> Sizes:
    if isinstance(train.b, data.ArrayColumn) and train.b.mapped:

        def of_items(rows: np.ndarray) -> np.ndarray:
            part = train.subset(rows)
            return data.mean_by_item(part.b.read(np.arange(len(part.b))), part.b_to_a, len(part))

        return _with(
            train, data.cluster_sizes_in_blocks(of_items, len(train), clusters=section.count or None, seed=seed)
        )
    texts = train.b.read(np.arange(len(train.b)))
    features = data.caption_features(texts, seed=seed) if train.b.kind == "text" else np.asarray(texts)
    items = data.mean_by_item(features, train.b_to_a, len(train.a))
    return _with(train, _cluster_sizes(items, clusters=section.count or None, seed=seed))


def _with(train: data.PairSplit, sizes: data.ClusterSizes) -> Sizes:
    return train.replace(cluster_size=sizes.size, cluster_size_b=None), (sizes.min_size, sizes.max_size)


SOURCES: dict[str, Callable[[ConfigDict, int, data.PairSplit], Sizes]] = {
    "data": _from_data,
    "label": _from_labels,
    "kmeans": _from_texts,
}
