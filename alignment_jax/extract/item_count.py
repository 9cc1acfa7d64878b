"""How far an extraction is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

# (side, done, total, encoded): how many items of "image" or "text" are done. `encoded` is False in the first call for a
# side and for items that an earlier extraction stored.
OnProgress = Callable[[str, int, int, bool], None]


def no_progress(side: str, done: int, total: int, encoded: bool) -> None:
    """The default `OnProgress`: does nothing."""


class ItemCount:
    """Counts finished items of each side over all batches and shards, and reports them.

    >>> count = ItemCount({"text": 3}, lambda *call: print(*call))
    text 0 3 False
    >>> count.encoded("text", 2)
    text 2 3 True
    """

    def __init__(self, totals: Mapping[str, int], on_progress: OnProgress):
        self._done, self._totals, self._on_progress = dict.fromkeys(totals, 0), totals, on_progress
        self.found(**self._done)

    def found(self, **counts: int) -> None:
        """Counts items of a finished shard, for each side."""
        for side, count in counts.items():
            self._add(side, count, encoded=False)

    def encoded(self, side: str, count: int) -> None:
        """Counts a new batch of a side."""
        self._add(side, count, encoded=True)

    def _add(self, side: str, count: int, *, encoded: bool) -> None:
        self._done[side] += count
        self._on_progress(side, self._done[side], self._totals[side], encoded)
