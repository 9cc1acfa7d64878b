"""Where the size of a sample's cluster comes from: the data's own counts, its classes, or K-Means on its texts."""

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
# Training with MM-TS, and the analysis of every method and seed, ask for the clusters of the same texts.
_cluster_sizes = remember(entries=8)(data.cluster_sizes)


def with_cluster_sizes(config: ConfigDict, train: data.PairSplit) -> Sizes:
    """The training split with a cluster size for every sample, and the smallest and largest of them.

    Raises:
      ConfigError: a source that this data set does not have.
    """
    section = config.clusters
    if section.count < 0:
        raise ConfigError(f"clusters.count must be at least 0 (0: chosen from the data), got {section.count}")

    def sizes() -> dict[str, Any]:
        split, limits = SOURCES[section.source](section, config.data_seed, train)
        return {"cluster_size": split.cluster_size, "cluster_size_b": split.cluster_size_b, "limits": limits}

    found = processes.compute_on_primary(sizes)  # K-Means may end elsewhere on another processor
    smallest, largest = found.pop("limits")
    return train.replace(**found), (smallest, largest)


def evaluation_sizes(config: ConfigDict, train: data.PairSplit, split: data.PairSplit) -> tuple[np.ndarray, np.ndarray]:
    """How frequent the content of another split is among the training samples, to judge rare and frequent ones apart.

    Args:
      config: `clusters` and `data_seed` are read.
      train: the training split.
      split: the split to judge.

    Returns:
      float32 [M], for each b-item of `split` the size of its cluster, and [N] the sizes of the training samples. The
      sizes that the data gives itself come first, then classes, then the K-Means clusters of the training captions,
      each other caption in the nearest one.
    """
    source, owner = config.clusters.source, split.b_to_a
    if source == "data" and split.cluster_size_b is not None and train.cluster_size_b is not None:
        return split.cluster_size_b, train.cluster_size_b
    if source != "kmeans" and split.label is not None and train.label is not None:
        counts = np.bincount(train.label, minlength=int(split.label.max()) + 1)
        return counts[split.label][owner].astype(np.float32), counts[train.label].astype(np.float32)
    parts = [column.read(np.arange(len(column))) for column in (train.b, split.b)]
    if train.b.kind == "text":
        # The words of both splits make one space; the clusters in it are those of the training captions alone.
        features = data.caption_features([*parts[0], *parts[1]], seed=config.data_seed)
        parts = [features[: len(train.b)], features[len(train.b) :]]
    known = data.mean_by_item(np.asarray(parts[0]), train.b_to_a, len(train.a))
    clusters = _cluster_sizes(known, clusters=config.clusters.count or None, seed=config.data_seed)
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
