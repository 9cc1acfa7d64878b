"""What each test sample contributes to the metrics of a classifier, so that a comparison can resample the samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax import metrics
from alignment_jax.evals.head_accuracy import SplitLogits, predicted_scores, softmax


def head_items(classified: SplitLogits, *, heads: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays that a classifier's run keeps.

    Args:
      classified: logits and labels of a split.
      heads: whose summed logits are the prediction; None for all.

    Returns:
      Arrays [n]: `label` int32; `correct` bool, of the prediction; `correct_a`, ... bool, of every head; `has_a`, ...
      bool, of the modalities that some samples lack; `macro_f1` and `mAP` float32, in percent, with the metric of
      `classification_metrics` as their mean (`metrics.macro_f1_pseudo_values`); where a class has no sample,
      `mAP_occurring`, the mean over the other classes.

    Raises:
      ValueError: no head, or one that the model does not have.

    >>> logits = {"a": np.array([[2.0, 0.0], [0.0, 1.0]]), "b": np.array([[0.0, 1.0], [0.0, 1.0]])}
    >>> found = head_items(SplitLogits(logits, np.array([0, 1])))
    >>> found["correct"].tolist(), found["correct_b"].tolist(), found["macro_f1"].tolist()
    ([True, True], [False, True], [100.0, 100.0])
    """
    scores, label = predicted_scores(classified, heads), classified.label
    ranked = softmax(scores)
    found = {
        "label": np.asarray(label, np.int32),
        "correct": scores.argmax(axis=1) == label,
        "macro_f1": metrics.macro_f1_pseudo_values(scores, label).astype(np.float32),
        "mAP": metrics.mean_average_precision_pseudo_values(ranked, label).astype(np.float32),
    }
    if len(np.unique(label)) < scores.shape[1]:
        occurring = metrics.mean_average_precision_pseudo_values(ranked, label, skip_absent=True)
        found["mAP_occurring"] = occurring.astype(np.float32)
    for name, logits in classified.logits.items():
        found[f"correct_{name}"] = logits.argmax(axis=1) == label
    return found | {f"has_{name}": np.asarray(has, bool) for name, has in classified.present.items() if not has.all()}
