"""Zero-shot classification: the class whose prompts are most similar to an item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax import metrics

# Entries of one block of similarities.
_BLOCK = 1 << 24


def class_embeddings(prompts: np.ndarray, class_of: np.ndarray) -> np.ndarray:
    """The mean direction of the prompts of every class.

    Args:
      prompts: [K, d] embeddings of the prompts, of any norm.
      class_of: int [K] class of each, every class from 0 to C - 1 at least once.

    Returns:
      float32 [C, d], rows of length one (zero where the prompts of a class cancel out).

    >>> found = class_embeddings(np.array([[2.0, 0.0], [0.0, 5.0], [0.0, -1.0]]), np.array([0, 0, 1]))
    >>> found.astype(float).round(2).tolist()
    [[0.71, 0.71], [0.0, -1.0]]

    Source: CLIP (Radford et al. 2021, section 3.1.4): normalised embeddings of several prompt templates are averaged
    and normalised again.
    """
    z = _unit(np.asarray(prompts, np.float32))
    total = np.zeros((int(np.max(class_of)) + 1, z.shape[1]), np.float32)
    np.add.at(total, class_of, z)
    return _unit(total / np.bincount(class_of)[:, None].astype(np.float32))


def zero_shot(
    embeddings: np.ndarray, classes: np.ndarray, label: np.ndarray, *, ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Accuracy at K of assigning items to the classes with the most similar embeddings, in %.

    Args:
      embeddings: [n, d] items, rows of length one.
      classes: [C, d], see `class_embeddings`.
      label: int [n] right class of each item.
      ks: the K; those from C up are left out: they are always right.

    Returns:
      {"accuracy@1": ..., "accuracy@5": ...}; ties count against the model.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> zero_shot(eye, eye, np.array([0, 1, 1]), ks=(1, 2, 5))
    {'accuracy@1': 66.66..., 'accuracy@2': 66.66...}
    """
    kept = [k for k in ks if k < len(classes)]
    block = max(1, _BLOCK // len(classes))
    total = dict.fromkeys([f"accuracy@{k}" for k in kept], 0.0)
    for start in range(0, len(embeddings), block):
        part = slice(start, start + block)
        scores = np.asarray(embeddings[part], np.float32) @ classes.T
        found = metrics.top_k_accuracy(scores, label[part], ks=kept)
        for name, value in found.items():
            total[name] += value * len(scores) / len(embeddings)
    return total


def chance_zero_shot(classes: int, *, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Accuracy at K of random guesses, in %.

    >>> chance_zero_shot(10)
    {'accuracy@1': 10.0, 'accuracy@5': 50.0}
    """
    return {f"accuracy@{k}": 100.0 * k / classes for k in ks if k < classes}


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
