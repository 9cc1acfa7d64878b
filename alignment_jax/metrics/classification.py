"""Accuracy, macro-F1 and mean average precision of class scores, in percent."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.metrics._value_checks import class_scores, scalar, traced


def accuracy(scores: Array, labels: Array) -> Any:
    """Share of samples whose highest score is that of the right class, in percent.

    Args:
      scores: [n, c] logits or probabilities; the first of equal scores is the prediction.
      labels: [n] integers in [0, c).

    Returns:
      A float in [0, 100].

    Raises:
      ValueError: shapes disagree, a score is NaN, or a label is out of range.

    >>> accuracy(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]]), np.array([0, 1, 1]))
    66.66...
    """
    scores, labels, xp = class_scores(scores, labels)
    return scalar(100.0 * xp.mean(scores.argmax(axis=1) == labels))


def macro_f1(scores: Array, labels: Array) -> Any:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), in percent; classes neither true nor predicted are left out.

    Args:
      scores: [n, c] logits or probabilities; the first of equal scores is the prediction.
      labels: [n] integers in [0, c).

    Returns:
      A float in [0, 100].

    Raises:
      ValueError: shapes disagree, a score is NaN, or a label is out of range.

    >>> macro_f1(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]]), np.array([0, 1, 1]))
    66.66...

    Source: macro-F1 of Twitter2015, Sarcasm and NVGesture in BSS (Guan et al., IJCAI 2025).
    """
    scores, labels, xp = class_scores(scores, labels)
    classes = xp.arange(scores.shape[1])
    true = labels[:, None] == classes
    predicted = scores.argmax(axis=1)[:, None] == classes
    hits = (true & predicted).sum(axis=0)
    total = true.sum(axis=0) + predicted.sum(axis=0)
    f1 = 2.0 * hits / xp.maximum(total, 1)
    return scalar(100.0 * f1.sum() / (total > 0).sum())


def mean_average_precision(scores: Array, labels: Array, *, skip_absent: bool = False) -> Any:
    """Mean over classes of the average precision of "this class against the rest", in percent.

    AP_c = mean over samples i of class c of #{j in c: s_jc >= s_ic} / #{j: s_jc >= s_ic}

    Args:
      scores: [n, c]; samples are ranked against each other by one class's score, so softmax probabilities and logits
        give different results. BSS ranks softmax(sum of the heads' logits).
      labels: [n] integers in [0, c).
      skip_absent: leave classes without any sample out of the mean; otherwise they count as 0.

    Returns:
      A float in [0, 100].

    Raises:
      ValueError: shapes disagree, a score is NaN, or a label is out of range.

    >>> mean_average_precision(np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 0, 1]))
    66.66...

    Source: mAP of CREMA-D, Kinetics-Sounds and VGGSound in BSS, which counts absent classes as 0 (as scikit-learn
    does); with few samples of many classes that lowers the number, hence `skip_absent`.
    """
    scores, labels, xp = class_scores(scores, labels)
    classes = xp.arange(scores.shape[1])

    def one_class(column, number):
        return _average_precision(column, labels == number, xp)

    if traced(scores, labels):
        precision = jax.vmap(one_class)(scores.T, classes)
    else:
        precision = np.array([one_class(scores[:, c], c) for c in classes])
    present = (labels[:, None] == classes).any(axis=0)
    count = present.sum() if skip_absent else scores.shape[1]
    return scalar(100.0 * xp.where(present, precision, 0).sum() / count)


def _average_precision(score: Array, positive: Array, xp: ModuleType) -> Any:
    order = xp.argsort(score)
    ascending, positive = score[order], positive[order]
    # Equal scores share one threshold: each retrieves everything from the first of them upwards.
    first = xp.searchsorted(ascending, ascending, side="left")
    retrieved = len(score) - first
    hits = xp.cumsum(positive[::-1])[::-1][first]
    return xp.where(positive, hits / retrieved, 0).sum() / xp.maximum(positive.sum(), 1)
