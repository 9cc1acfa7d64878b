"""Cuts an order of samples into batches: a matrix of sample numbers, -1 for padding."""

from __future__ import annotations

import numpy as np

from alignment_jax.core.errors import ConfigError


def batch_rows(order: np.ndarray, *, batch_size: int, devices: int = 1, halves: bool = False) -> np.ndarray:
    """Cuts an order of samples into batches.

    An incomplete last batch is dropped, except where it is the only one: fewer samples than a batch make one padded
    batch. The width does not depend on the order, so that epochs of different lengths share one compiled step.

    Args:
      order: int [k], sample numbers of the epoch.
      batch_size: real rows of a full batch.
      devices: the width of the result is the batch size rounded up to a multiple of this, padded with -1.
      halves: for FuseMix: each device gets a part of the batch's first half followed by the same part of its second
        half. Each half is padded separately.

    Returns:
      int64 [steps, width].

    Raises:
      ConfigError: fewer than one sample, or `halves` with fewer than two.

    >>> batch_rows(np.arange(5), batch_size=2)
    array([[0, 1],
           [2, 3]])
    >>> batch_rows(np.arange(3), batch_size=5, devices=2)
    array([[ 0,  1,  2, -1, -1, -1]])
    >>> batch_rows(np.arange(8), batch_size=8, devices=2, halves=True)  # device 0: 0 1 4 5, device 1: 2 3 6 7
    array([[0, 1, 4, 5, 2, 3, 6, 7]])
    """
    order = np.asarray(order, np.int64)
    parts = 2 if halves else 1
    size = min(batch_size, order.size) // parts
    if size == 0:
        need = "a training split with at least one pair"
        if halves:
            need = "a batch_size and a training split of at least 2, because FuseMix mixes pairs of samples"
        raise ConfigError(f"training needs {need}")
    share = -(-(batch_size // parts) // devices)  # rows of one part on one device
    rows = order[: order.size - order.size % (size * parts)].reshape(-1, parts, size)
    rows = np.pad(rows, [(0, 0), (0, 0), (0, share * devices - size)], constant_values=-1)
    return rows.reshape(-1, parts, devices, share).transpose(0, 2, 1, 3).reshape(rows.shape[0], -1)


def scoring_rows(n: int, *, batch_size: int, devices: int = 1) -> np.ndarray:
    """Every sample once, in batches whose contrastive losses are comparable.

    A contrastive loss depends on the number and the kind of candidates. So batch sizes differ by at most one, and batch
    k of s takes the samples k, k + s, k + 2s, ...: neighbours in a file are often of one kind. The composition of the
    batches does not depend on the number of devices.

    Args:
      n: samples, at least 1.
      batch_size: maximum of real rows of a batch.
      devices: the width of the result is the batch size rounded up to a multiple of this, padded with -1.

    Returns:
      int64 [steps, width].

    >>> scoring_rows(5, batch_size=4)
    array([[ 0,  2,  4, -1],
           [ 1,  3, -1, -1]])
    """
    steps = -(-n // batch_size)
    rows = np.full((steps, -(-batch_size // devices) * devices), -1, np.int64)
    sample = np.arange(n)
    rows[sample % steps, sample // steps] = sample
    return rows
