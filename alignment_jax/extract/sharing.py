"""Several processes that write one extraction: each makes its shards, the first one finishes the file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of one process. All processes must see the same folder.

    Attributes:
      index, count: number of this process, and of all processes.

    >>> [Share(index=1, count=3).has(shard) for shard in range(4)]
    [False, True, False, False]
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process creates and finishes the folder."""
        return self.index == 0

    def has(self, shard: int) -> bool:
        """Whether this process makes the shard."""
        return shard % self.count == self.index

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds, which another process brings about; at once for one process."""
        while self.count > 1 and not condition():
            time.sleep(_SECONDS)
