"""Classification metrics of one split, for predictions from any set of heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax import metrics
from alignment_jax.core.batch_groups import group_batches, start_ahead


@dataclasses.dataclass(frozen=True)
class SplitLogits:
    """Logits of every head over one split, head -> [n, c], and the right classes [n].

    present: head -> bool [n], the samples with its modality (no entry: all); other logits are zero.
    """

    logits: Mapping[str, np.ndarray]
    label: np.ndarray
    present: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def classify_items(
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]], batches: Iterable[Mapping[str, Any]], *, width: int = 1
) -> SplitLogits:
    """Runs `predict` over labelled batches and drops the padding.

    Args:
      predict: batch of width * k rows -> logits of every head, head -> [width * k, c].
      batches: of one size, so that `predict` compiles once; with `where` [k] and `label` [k], and `has_a` [k] etc. for
        missing modalities.
      width: batches that `predict` takes at once, one on each of several devices for example.

    >>> batches = [{"x": np.eye(2), "label": np.array([0, 1]), "where": np.array([True, False])}]
    >>> classify_items(lambda batch: {"a": batch["x"]}, batches).logits["a"]
    array([[1., 0.]], dtype=float32)
    """
    parts: dict[str, list[np.ndarray]] = {}
    labels = []
    present: dict[str, list[np.ndarray]] = {}
    for (batch, rows), predicted in start_ahead(lambda group: predict(group[0]), group_batches(batches, width)):
        where = np.flatnonzero(np.asarray(batch["where"])[:rows])
        labels.append(np.asarray(batch["label"])[where])
        for name, logits in predicted.items():
            parts.setdefault(name, []).append(np.asarray(logits, np.float32)[where])
            if f"has_{name}" in batch:
                present.setdefault(name, []).append(np.asarray(batch[f"has_{name}"])[where])
    logits, has = ({name: np.concatenate(each) for name, each in found.items()} for found in (parts, present))
    return SplitLogits(logits, np.concatenate(labels), has)


def classification_metrics(classified: SplitLogits, *, heads: Sequence[str] | None = None) -> dict[str, float]:
    """Accuracy, macro-F1 and mAP of the summed logits of some heads, and the accuracy of every head alone, in %.

    The accuracy of a head counts the samples with its modality; without any there is none.

    mAP ranks softmax(sum of logits) and counts a class without samples as 0, as the authors of BSS do.

    Args:
      classified: logits and labels of a split.
      heads: whose logits are summed; None for all. BSS: ("a", "b") on CREMA-D, all heads elsewhere.

    Returns:
      `accuracy`, `macro_f1`, `mAP`, and `accuracy_a`, `accuracy_b`, ..., `accuracy_fused` of single heads.

    Raises:
      ValueError: no head, or one that the model does not have.

    >>> logits = {"a": np.array([[2.0, 0.0], [0.0, 1.0]]), "b": np.array([[0.0, 1.0], [0.0, 1.0]])}
    >>> classification_metrics(SplitLogits(logits, np.array([0, 1])))
    {'accuracy': 100.0, 'macro_f1': 100.0, 'mAP': 100.0, 'accuracy_a': 100.0, 'accuracy_b': 50.0}

    Source: BSS (Guan et al., IJCAI 2025), evaluation.
    """
    scores = predicted_scores(classified, heads)
    label = classified.label
    found = {
        "accuracy": metrics.accuracy(scores, label),
        "macro_f1": metrics.macro_f1(scores, label),
        "mAP": metrics.mean_average_precision(softmax(scores), label),
    }
    for name, logits in classified.logits.items():
        has = classified.present.get(name, np.ones(len(label), bool))
        if has.any():
            found[f"accuracy_{name}"] = metrics.accuracy(logits[has], label[has])
    return {name: float(value) for name, value in found.items()}


def predicted_scores(classified: SplitLogits, heads: Sequence[str] | None) -> np.ndarray:
    """The summed logits [n, c] of some heads, None for all; the prediction is the class of the highest.

    Raises:
      ValueError: no head, or one that the model does not have.
    """
    names = tuple(classified.logits) if heads is None else tuple(heads)
    unknown = [name for name in names if name not in classified.logits]
    if unknown or not names:
        raise ValueError(f"heads must be some of {', '.join(classified.logits)}, got {', '.join(names) or 'none'}")
    return np.sum([classified.logits[name] for name in names], axis=0)


def balance(metrics_of_heads: Mapping[str, float]) -> dict[str, float]:
    """Gap between the accuracies of single modalities, and gain of their fusion.

    Where samples lack a modality, the accuracies are of different samples; `compare.fusion_gain` compares equal ones.

    Args:
      metrics_of_heads: `accuracy`, `accuracy_a`, `accuracy_b` (and `accuracy_c`) in %, from `classification_metrics`.

    Returns:
      The same accuracies; `gap`: the best single modality minus the worst; `gain`: the prediction minus the best single
      modality; percentage points.

    >>> found = balance({"accuracy": 90.0, "accuracy_a": 85.0, "accuracy_b": 60.0, "macro_f1": 88.0})
    >>> found["gap"], found["gain"]
    (25.0, 5.0)

    Source: BSS (Guan et al., IJCAI 2025) compares each modality's accuracy with the fused one.
    """
    accuracies = {name: value for name, value in metrics_of_heads.items() if name.startswith("accuracy")}
    single = [value for name, value in accuracies.items() if name.rpartition("_")[2] in ("a", "b", "c")]
    return {**accuracies, "gap": max(single) - min(single), "gain": accuracies["accuracy"] - max(single)}


def chance_classification(label: np.ndarray) -> dict[str, float]:
    """Accuracy in % of always predicting the most frequent class.

    >>> chance_classification(np.array([0, 0, 1, 2]))
    {'accuracy': 50.0}
    """
    count = np.bincount(label)
    return {"accuracy": float(100.0 * count.max() / count.sum())}


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities [n, c] of logits."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
