"""Histograms of classes and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def class_histogram(label: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Counts of the classes that occur, most frequent first, and statistics of their tail.

    Args:
      label: int [n].
      names: of the classes, by number.

    Returns:
      `number` of classes; samples of the `largest`, the `median` and the `smallest`; `half`: number of classes that
      hold half of the samples; `tail`: number of rarest classes that hold the last tenth; `counts`: name -> samples.

    >>> found = class_histogram(np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 3]), ["dog", "cat", "owl", "elk"])
    >>> found["half"], found["tail"], found["counts"]
    (1, 1, {'dog': 6, 'cat': 2, 'owl': 1, 'elk': 1})
    """
    classes, counts = np.unique(label, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    classes, counts = classes[order], counts[order]
    named = [str(c) if names is None else names[c] for c in classes.tolist()]
    held = np.cumsum(counts)
    return {
        "number": len(classes),
        "largest": int(counts[0]),
        "median": float(np.median(counts)),
        "smallest": int(counts[-1]),
        "half": int(np.searchsorted(held, held[-1] / 2) + 1),
        "tail": int((np.cumsum(counts[::-1]) <= held[-1] / 10).sum()),
        "counts": dict(zip(named, counts.tolist(), strict=True)),
    }


def cluster_histogram(size: np.ndarray) -> dict[str, Any]:
    """A histogram of clusters, from the cluster size of every sample.

    Args:
      size: [n], cluster size of each sample. The number of clusters is an estimate if sizes were counted on another
        split.

    >>> cluster_histogram(np.array([3.0, 3.0, 3.0, 1.0]))["counts"]
    [3, 1]
    """
    sizes, held = np.unique(np.asarray(size, np.int64), return_counts=True)
    number = np.maximum(1, np.rint(held / np.maximum(sizes, 1))).astype(int)
    counts = np.repeat(sizes, number)[::-1]
    return {
        "number": len(counts),
        "largest": int(counts[0]),
        "median": float(np.median(counts)),
        "smallest": int(counts[-1]),
        "counts": counts.tolist(),
    }
