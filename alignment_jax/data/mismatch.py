"""Adds mismatched pairs to training data, for experiments with noisy labels."""

from __future__ import annotations

import hashlib

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.data.split import PairSplit

LARGEST = 0.5


def mismatch(split: PairSplit, share: float, *, seed: int) -> PairSplit:
    """Swaps the b-items between pairs of a-items, for a share of the a-items.

    A-items are ranked by a hash of (seed, id); ranks 2k and 2k + 1 swap all their b-items. Every b-item is still used
    once, and a larger share contains the swaps of a smaller one.

    Args:
      split: N a-items.
      share: of the a-items, in [0, 0.5]; rounded down to an even number of them.
      seed: of the hash.

    Raises:
      ConfigError: share is not in [0, 0.5].

    >>> from alignment_jax.data import ArrayColumn
    >>> column = ArrayColumn(np.eye(8))
    >>> split = PairSplit(a=column, b=column, b_to_a=np.arange(8), ids=np.arange(8))
    >>> int((mismatch(split, 0.5, seed=0).b_to_a != split.b_to_a).sum())
    4
    """
    if not 0.0 <= share <= LARGEST:
        raise ConfigError(f"input.mismatched must be in [0, {LARGEST}], got {share}")
    pairs = int(share * len(split) / 2 + 1e-9)
    if not pairs:
        return split
    rank = [hashlib.sha256(f"mismatched/{seed}/{name}".encode()).digest() for name in split.ids.tolist()]
    order = np.array(sorted(range(len(split)), key=rank.__getitem__))[: 2 * pairs].reshape(-1, 2)
    partner = np.arange(len(split), dtype=np.int32)
    partner[order] = order[:, ::-1]
    return split.replace(b_to_a=partner[split.b_to_a])
