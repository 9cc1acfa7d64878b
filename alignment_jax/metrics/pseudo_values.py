"""Metrics that are no mean over samples, as a mean over samples: pseudo-values of the infinitesimal jackknife.

    pseudo-value_i = metric + n * (derivative of the metric by the weight of sample i)

Their mean is the metric. The variation of their mean under resampling of the samples is, to first order, that of the
metric, so one bootstrap serves accuracy, macro-F1 and mAP alike. Concrete arrays only.

Source: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans" (1982), chapter 6.
"""

from __future__ import annotations

import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.metrics._value_checks import class_scores


def macro_f1_pseudo_values(scores: Array, labels: Array) -> np.ndarray:
    """Pseudo-values of `macro_f1`, in percent.

    Args:
      scores: [n, c] logits or probabilities; the first of equal scores is the prediction.
      labels: [n] integers in [0, c).

    Returns:
      float64 [n], whose mean is `macro_f1(scores, labels)`.

    Raises:
      ValueError: shapes disagree, a score is NaN, or a label is out of range.

    >>> macro_f1_pseudo_values(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]]), np.array([0, 1, 1])).round(1).tolist()
    [100.0, 100.0, 0.0]
    """
    scores, labels, _ = class_scores(np.asarray(scores), np.asarray(labels))
    n, c = scores.shape
    predicted = scores.argmax(axis=1)
    hits = np.bincount(labels[predicted == labels], minlength=c)
    total = np.bincount(labels, minlength=c) + np.bincount(predicted, minlength=c)
    used = np.maximum(total, 1)
    f1 = 2.0 * hits / used
    classes = np.count_nonzero(total)
    slope = 2.0 * (predicted == labels) / used[labels] - f1[labels] / used[labels] - f1[predicted] / used[predicted]
    return 100.0 * (f1.sum() + n * slope) / classes


def mean_average_precision_pseudo_values(scores: Array, labels: Array, *, skip_absent: bool = False) -> np.ndarray:
    """Pseudo-values of `mean_average_precision`, in percent.

    Args:
      scores: [n, c]; samples are ranked against each other by one class's score.
      labels: [n] integers in [0, c).
      skip_absent: leave classes without any sample out of the mean; otherwise they count as 0.

    Returns:
      float64 [n], whose mean is `mean_average_precision(scores, labels, skip_absent=skip_absent)`.

    Raises:
      ValueError: shapes disagree, a score is NaN, or a label is out of range.

    >>> scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]])
    >>> mean_average_precision_pseudo_values(scores, np.array([0, 0, 1])).round(1).tolist()
    [87.5, 25.0, 87.5]
    """
    scores, labels, _ = class_scores(np.asarray(scores), np.asarray(labels))
    n, c = scores.shape
    present = np.unique(labels)
    found = np.zeros(n)
    for number in present:
        precision, slope = _average_precision(scores[:, number], labels == number)
        found += precision + n * slope
    return 100.0 * found / (len(present) if skip_absent else c)


def _average_precision(score: Array, positive: Array) -> tuple[float, np.ndarray]:
    """Average precision of one class, and its derivative by the weight of every sample."""
    score, positive = np.asarray(score), np.asarray(positive)
    order = np.argsort(score, kind="stable")
    ascending, right = score[order], positive[order].astype(np.float64)
    # Equal scores share one threshold: each retrieves everything from the first of them upwards.
    first = np.searchsorted(ascending, ascending, side="left")
    last = np.searchsorted(ascending, ascending, side="right") - 1
    retrieved = len(score) - first
    hits = np.cumsum(right[::-1])[::-1][first]
    count = right.sum()
    precision = float(np.sum(right * hits / retrieved) / count)
    # A sample enters the hits and the retrieved of every positive sample that is ranked at or below it.
    as_hit = np.cumsum(right / retrieved)[last]
    as_retrieved = np.cumsum(right * hits / retrieved**2)[last]
    slope = np.empty(len(score))
    slope[order] = (right * (hits / retrieved + as_hit - precision) - as_retrieved) / count
    return precision, slope
