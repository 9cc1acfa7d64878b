"""Cluster size of each sample: size of its K-Means cluster of texts, or number of samples of its class.

Computed once before training; MM-TS derives the temperature of a sample from it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.optional import require

# Above this many items, mini-batches of this size give nearly the same clusters much faster.
_MINI_BATCH_ABOVE, _MINI_BATCH = 50_000, 4096
_LARGEST_DEFAULT = 1000


@dataclasses.dataclass(frozen=True)
class ClusterSizes:
    """The cluster of each item and its size.

    Attributes:
      label: int32 [n] cluster of each item, in [0, k).
      size: float32 [n] number of items in that cluster, the item itself included; `PairSplit.cluster_size`.
      counts: int64 [k] number of items of every cluster.
      min_size, max_size: the smallest and the largest cluster, which scale the shift of the temperature.
    """

    label: np.ndarray
    size: np.ndarray
    counts: np.ndarray
    min_size: float
    max_size: float


def cluster_sizes(features: np.ndarray, *, clusters: int | None = None, seed: int = 0) -> ClusterSizes:
    """Clusters items by K-Means and counts the items of every cluster.

    Rows are L2-normalised first, so that clusters follow cosine similarity as the loss does.

    Args:
      features: [n, d] one vector per item: text latents, `mean_by_item` of them, or `caption_features`.
      clusters: number of clusters; None for round(sqrt(n / 2)), at most 1000 and at most the number of distinct items.
      seed: of the initial centers; the same seed gives the same clusters.

    Returns:
      A `ClusterSizes`; clusters are numbered by descending size.

    Raises:
      DataError: features are not [n, d] or a row is not finite.
      ConfigError: `clusters` is not in [1, number of distinct items].
      MissingPackageError: scikit-learn is not installed.

    >>> found = cluster_sizes(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), clusters=2)
    >>> found.size.tolist(), found.min_size, found.max_size
    ([2.0, 2.0, 1.0], 1.0, 2.0)

    Source: MM-TS (Sheludzko et al., WACV 2026), individual cluster shift: K-Means on text embeddings, once before
    training. The default number of clusters is a rule of thumb; the paper sets it per data set.
    """
    x = _directions(features)
    return _count(_k_means(x, _number_of_clusters(x, clusters, len(x)), seed).labels_)


def cluster_sizes_in_blocks(
    features: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    clusters: int | None = None,
    seed: int = 0,
    sample: int = 100_000,
    block: int = 16_384,
) -> ClusterSizes:
    """`cluster_sizes` for features that do not fit in memory: K-Means on a sample, then nearest centers for all items.

    Args:
      features: rows [k] -> vectors [k, d] of these items.
      n: number of items.
      clusters, seed: as in `cluster_sizes`; the default number is that of n items, at most the distinct items of the
        sample.
      sample: number of evenly spaced items for K-Means.
      block: items per read; memory is `sample + block` vectors.

    >>> x = np.repeat([[1.0, 0.0], [0.0, 1.0]], [6, 2], axis=0)
    >>> cluster_sizes_in_blocks(lambda rows: x[rows], 8, clusters=2, sample=4, block=3).size.tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 2.0, 2.0]
    """
    rows = np.arange(n)
    seen = _directions(features(rows[:: -(-n // sample)]))
    model = _k_means(seen, _number_of_clusters(seen, clusters, n), seed)
    labels = []
    with _one_thread():
        for start in range(0, n, block):
            labels.append(model.predict(_directions(features(rows[start : start + block]))))
    return _count(np.concatenate(labels))


def _directions(features: np.ndarray) -> np.ndarray:
    """L2-normalised rows, checked; a zero row stays zero."""
    x = np.asarray(features)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"features to cluster must have shape [n, d] with n, d >= 1, got {x.shape}")
    x = x.astype(np.float32)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise DataError(f"features to cluster are not finite in row {int(finite.argmin())}; remove or repair that item")
    return _unit_rows(x)


def _number_of_clusters(x: np.ndarray, clusters: int | None, n: int) -> int:
    distinct = len(np.unique(x, axis=0))
    if clusters is None:
        return min(max(1, round(np.sqrt(n / 2))), distinct, _LARGEST_DEFAULT)
    if not 1 <= clusters <= distinct:
        raise ConfigError(f"clusters must be between 1 and the {distinct} distinct items, got {clusters}")
    return clusters


def assigned_sizes(features: np.ndarray, train_features: np.ndarray, train: ClusterSizes) -> np.ndarray:
    """The size of the nearest training cluster of each new item.

    Args:
      features: [n, d] of the new items.
      train_features: [k, d] of the training items, in the same space.
      train: their clusters, from `cluster_sizes`.

    Returns:
      float32 [n].

    >>> train = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
    >>> assigned_sizes(np.array([[0.1, 5.0]]), train, cluster_sizes(train, clusters=2)).tolist()
    [1.0]
    """
    known, x = _unit_rows(np.asarray(train_features, np.float32)), _unit_rows(np.asarray(features, np.float32))
    centers = np.zeros((len(train.counts), known.shape[1]), np.float32)
    np.add.at(centers, train.label, known)
    centers /= train.counts[:, None]
    distance = (centers**2).sum(axis=1) - 2 * x @ centers.T
    return train.counts[distance.argmin(axis=1)].astype(np.float32)


def class_counts(labels: np.ndarray | Sequence[int]) -> ClusterSizes:
    """`ClusterSizes` of class labels: the size of an item is the number of items of its class.

    Args:
      labels: [n] integers, any numbers.

    Returns:
      A `ClusterSizes`; classes are numbered by descending count.

    Raises:
      DataError: labels are not a vector of integers with at least one item.

    >>> class_counts([7, 3, 7, 7]).size.tolist()
    [3.0, 1.0, 3.0, 3.0]

    Source: MM-TS counts the nouns and verbs of EPIC-KITCHENS this way.
    """
    x = np.asarray(labels)
    if x.ndim != 1 or x.size == 0 or not np.issubdtype(x.dtype, np.integer):
        raise DataError(f"labels to count must be a vector of integers, got shape {x.shape} of {x.dtype}")
    return _count(x)


def mean_by_item(features: np.ndarray, owner: np.ndarray | Sequence[int], n: int) -> np.ndarray:
    """Averages the L2-normalised vectors of the b-items of each a-item.

    Args:
      features: [m, d] latents of the b-items.
      owner: [m] the a-item of each.
      n: number of a-items, each with at least one b-item.

    Returns:
      float32 [n, d].

    Raises:
      DataError: lengths disagree, an owner is outside [0, n), or an item has no b-item.

    >>> mean_by_item(np.array([[2.0, 0.0], [0.0, 4.0], [3.0, 0.0]]), [0, 0, 1], 2).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    x, items = np.asarray(features, dtype=np.float32), np.asarray(owner)
    if x.ndim != 2 or items.shape != (len(x),):
        raise DataError(f"features must be [m, d] and owner [m], got {x.shape} and {items.shape}")
    if items.size and (items.min() < 0 or items.max() >= n):
        raise DataError(f"owner must be in [0, {n}), got values from {items.min()} to {items.max()}")
    counts = np.bincount(items, minlength=n)
    if not counts.all():
        raise DataError(f"item {int(counts.argmin())} has no caption to cluster it by")
    # Without normalisation, captions with large norms would dominate the mean.
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
    total = np.zeros((n, x.shape[1]), np.float32)
    np.add.at(total, items, unit)
    return total / counts[:, None].astype(np.float32)


def caption_features(captions: Sequence[str], *, dim: int = 128, seed: int = 0) -> np.ndarray:
    """Feature vectors of captions without latents: TF-IDF of words, reduced by truncated SVD.

    Args:
      captions: m strings.
      dim: largest width of the result.
      seed: of the randomized SVD.

    Returns:
      float32 [m, <= dim]; a caption without any known word is a zero vector.

    Raises:
      DataError: no caption holds a word.
      ConfigError: dim < 1.
      MissingPackageError: scikit-learn is not installed.

    >>> z = caption_features(["a red dog", "the red dog", "blue water"])
    >>> bool(np.allclose(z[0], z[1], atol=1e-6)), bool(abs(z[0] @ z[2]) < 1e-6)
    (True, True)
    """
    if dim < 1:
        raise ConfigError(f"dim must be at least 1, got {dim}")
    text = require("sklearn.feature_extraction.text", extra="train", purpose="cluster captions by their words")
    # Stop words would cluster captions by phrasing instead of content.
    vectorizer = text.TfidfVectorizer(
        sublinear_tf=True, stop_words="english", token_pattern=r"(?u)\w+", dtype=np.float32
    )
    if not any(vectorizer.build_analyzer()(caption) for caption in captions):
        raise DataError(
            f"none of the {len(captions)} captions holds a word to cluster by; give latents or labels instead"
        )
    counts = vectorizer.fit_transform(captions)
    if min(counts.shape) <= dim:
        return counts.toarray()
    decomposition = require("sklearn.decomposition", extra="train", purpose="cluster captions by their words")
    with _one_thread():
        reduced = decomposition.TruncatedSVD(dim, random_state=seed).fit_transform(counts)
    return reduced.astype(np.float32)


def _unit_rows(x: np.ndarray) -> np.ndarray:
    """L2-normalised rows, without overflow; a zero row stays zero."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = np.divide(x, largest, out=np.zeros_like(x), where=largest > 0)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)


def _k_means(x: np.ndarray, clusters: int, seed: int) -> Any:
    cluster = require("sklearn.cluster", extra="train", purpose="cluster samples by K-Means")
    if len(x) > _MINI_BATCH_ABOVE:
        model = cluster.MiniBatchKMeans(clusters, batch_size=_MINI_BATCH, n_init=3, random_state=seed)
    else:
        model = cluster.KMeans(clusters, n_init=3, random_state=seed)
    with _one_thread(), warnings.catch_warnings():
        # Nearly equal items may leave a cluster empty; only the clusters that exist are counted.
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        return model.fit(x)


def _one_thread():
    """Limits the libraries to one thread: the order of partial sums, and so the result, depends on the threads."""
    control = require("threadpoolctl", extra="train", purpose="cluster samples the same way in every run")
    return control.threadpool_limits(1)


def _count(labels: np.ndarray) -> ClusterSizes:
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    size = counts[inverse].astype(np.float32)
    return ClusterSizes(
        label=number[inverse].astype(np.int32),
        size=size,
        counts=counts[order],
        min_size=float(size.min()),
        max_size=float(size.max()),
    )
