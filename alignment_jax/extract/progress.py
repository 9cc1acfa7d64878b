"""What an extraction tells of how far it is."""

from __future__ import annotations

from collections.abc import Callable

# (side, done, total, encoded): how many items of "image" or "text" are done, and whether the ones since the side's call
# before were encoded just now. They were not where a side begins, or where an earlier extraction had stored them.
OnProgress = Callable[[str, int, int, bool], None]


def silent(side: str, done: int, total: int, encoded: bool) -> None:
    """Nobody is told."""
