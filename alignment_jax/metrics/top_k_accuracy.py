"""Accuracy at K of class scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.metrics._value_checks import class_numbers


def top_k_accuracy(scores: Array, labels: Array, *, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Share of samples whose right class is among the K highest scores, in percent; ties count against the sample.

    Args:
      scores: [n, c] similarities to every class, or logits.
      labels: [n] integers in [0, c).
      ks: the K, positive.

    Returns:
      {"accuracy@1": ..., "accuracy@5": ...}.

    Raises:
      ValueError: shapes disagree, a score is NaN, a label is out of range, or a K is not positive.

    >>> top_k_accuracy(np.array([[0.9, 0.5, 0.1], [0.2, 0.8, 0.8]]), np.array([1, 1]), ks=(1, 2))
    {'accuracy@1': 0.0, 'accuracy@2': 100.0}
    """
    s = np.asarray(scores)
    if s.ndim != 2 or 0 in s.shape:
        raise ValueError(f"scores must have shape [n, c] with n, c >= 1, got {s.shape}")
    if np.isnan(s).any():
        raise ValueError(f"scores is NaN in row {int(np.isnan(s).any(axis=1).argmax())}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be positive, got {list(ks)}")
    own = class_numbers("labels", labels, length=len(s), classes=s.shape[1], of="row of scores")
    right = np.take_along_axis(s, np.asarray(own)[:, None], axis=1)
    ahead = (s >= right).sum(axis=1) - 1
    return {f"accuracy@{k}": float(100.0 * np.mean(ahead < k)) for k in ks}
