"""How hard a labelled sample is for a set of heads: its loss, or the size of that loss's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax.sampling._arrays import matrices


def cross_entropy(
    logits: Sequence[np.ndarray], labels: np.ndarray | Sequence[int], *, weights: Sequence[float] | None = None
) -> np.ndarray:
    """Weighted sum over heads of the sample's cross-entropy, l_i = sum_k w_k (-log softmax(logits_k[i])[labels_i]).

    Args:
      logits: one [n, c] array per head (modality heads and fused head).
      labels: [n] class numbers in [0, c).
      weights: one factor per head; None is 1 for all. CREMA-D in BSS: (0.9, 0.9, 0.1), the fused head last.

    Returns:
      float64 [n].

    Raises:
      ValueError: shapes or lengths disagree, a logit is not finite, or a label is out of range.

    >>> head = np.array([[0.0, 0.0], [100.0, 0.0]])
    >>> cross_entropy([head, head], [1, 0], weights=[0.5, 0.5]).round(4)
    array([0.6931, 0.    ])

    Source: BSS (Guan et al., IJCAI 2025), balance measurer and training objective.
    """
    parts, picked, factors = _heads(logits, labels, weights)
    rows = np.arange(len(picked))
    return sum(w * -_log_softmax(part)[rows, picked] for w, part in zip(factors, parts, strict=True))


def gradient_magnitude(
    logits: Sequence[np.ndarray],
    labels: np.ndarray | Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    features: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """L2 norm of the gradient of the sample's loss with respect to all its logits, or to its heads' parameters.

    g_i = sqrt(sum_k |w_k (softmax(logits_k[i]) - onehot(labels_i))|^2), the loss being that of `cross_entropy`.
    With features each term is multiplied by 1 + |features_k[i]|^2: the gradient of a linear head's kernel is the outer
    product of the two, its bias's gradient is the first.

    Args:
      logits: one [n, c] array per head.
      labels: [n] class numbers in [0, c).
      weights: one factor per head; None is 1 for all.
      features: one [n, d_k] array per head, what its linear layer takes; None for the gradient at the logits.

    Returns:
      float64 [n].

    Raises:
      ValueError: as for `cross_entropy`, or features that do not fit the logits.

    >>> head = np.array([[0.0, 0.0], [100.0, 0.0]])
    >>> gradient_magnitude([head], [1, 0]).round(4)
    array([0.7071, 0.    ])
    >>> gradient_magnitude([head], [1, 0], features=[np.array([[1.0, 1.0], [5.0, 0.0]])]).round(4)
    array([1.2247, 0.    ])

    Source: BSS, the criterion that its ablation calls gradient magnitude. The published scripts do not compute it; our
    reading is the gradient at the logits or of the last layer, neither of which needs a backward pass through the
    network for every sample.
    """
    parts, picked, factors = _heads(logits, labels, weights)
    rows = np.arange(len(picked))
    total = np.zeros(len(picked))
    for w, part, scale in zip(factors, parts, _squared_inputs(features, parts), strict=True):
        gradient = np.exp(_log_softmax(part))
        gradient[rows, picked] -= 1.0
        total += np.square(w * gradient).sum(axis=1) * scale
    return np.sqrt(total)


def _squared_inputs(features: Sequence[np.ndarray] | None, parts: list[np.ndarray]) -> list[np.ndarray]:
    """1 + |h|^2 of every head's input, or 1 without them."""
    n = len(parts[0])
    if features is None:
        return [np.ones(n)] * len(parts)
    if len(features) != len(parts):
        raise ValueError(f"features must hold one array per head: expected {len(parts)}, got {len(features)}")
    found = [matrices(f"features[{k}]", [part], at_least=1)[0] for k, part in enumerate(features)]
    for k, part in enumerate(found):
        if len(part) != n:
            raise ValueError(f"features[{k}] must have one row per sample: expected {n}, got {len(part)}")
    return [1.0 + np.square(part).sum(axis=1) for part in found]


def _heads(logits, labels, weights) -> tuple[list[np.ndarray], np.ndarray, list[float]]:
    parts = matrices("logits", logits, at_least=1)
    n, classes = parts[0].shape
    picked = np.asarray(labels)
    if picked.shape != (n,) or not np.issubdtype(picked.dtype, np.integer):
        raise ValueError(f"labels must be {n} integers, one per sample, got shape {picked.shape} of {picked.dtype}")
    outside = np.flatnonzero((picked < 0) | (picked >= classes))
    if outside.size:
        raise ValueError(f"labels[{outside[0]}] is {picked[outside[0]]}, outside the {classes} classes of the logits")
    factors = [1.0] * len(parts) if weights is None else [float(w) for w in weights]
    if len(factors) != len(parts):
        raise ValueError(f"weights must hold one factor per head: expected {len(parts)}, got {len(factors)}")
    return parts, picked, factors


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
