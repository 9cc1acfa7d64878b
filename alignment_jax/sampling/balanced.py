"""An order that shows every class equally often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment_jax.sampling._arrays import BALANCED, generator


def class_balanced_order(label: np.ndarray | Sequence[int], *, epoch: int, seed: int) -> np.ndarray:
    """n samples of an epoch, every class in n / c of them, shuffled.

    A smaller class repeats its samples, equally often up to one; a larger one shows a different part of them in every
    epoch.

    Args:
      label: [n] integers, the class of each sample; c of them differ.
      epoch: counted from 0.
      seed: a non-negative integer.

    Returns:
      int64 [n], indices into `label`.

    Raises:
      ValueError: no label, or label is not a vector of integers.

    >>> label = np.array([0, 0, 0, 0, 0, 1])
    >>> np.bincount(label[class_balanced_order(label, epoch=0, seed=0)]).tolist()
    [3, 3]
    """
    label = np.asarray(label)
    if label.ndim != 1 or not len(label) or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"label must be a vector of integers with at least one, got {label.dtype} {list(label.shape)}")
    rng = generator(seed, epoch, BALANCED)
    classes = rng.permutation(np.unique(label))  # the first ones have one more sample where c does not divide n
    share, more = divmod(len(label), len(classes))
    chosen = []
    for place, each in enumerate(classes):
        members, wanted = np.flatnonzero(label == each), share + (place < more)
        rounds = -(-wanted // len(members))
        chosen.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:wanted])
    return rng.permutation(np.concatenate(chosen)).astype(np.int64)
