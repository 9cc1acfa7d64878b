"""Pairs that do not belong together, put into training data on purpose."""

from __future__ import annotations

import hashlib

import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.data.split import PairSplit

LARGEST = 0.5


def mismatch(split: PairSplit, share: float, *, seed: int) -> PairSplit:
    """The split with a share of its a-items given each other's b-items.

    A-items are put in an order by a hash of (seed, id), and those at places 2k and 2k + 1 exchange all their b-items,
    for as many k as the share asks. So every b-item is still used once, nobody in the share keeps its own, and what is
    mismatched at a small share is mismatched in the same way at a larger one.

    Args:
      split: N a-items.
      share: of the a-items, in [0, 0.5]; rounded down to an even number of them.
      seed: another seed, other pairs.

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
