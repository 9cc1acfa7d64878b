"""Work in the background that is done in the order in which it was given."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable


class Ordered:
    """Does jobs one after the other in a thread of its own, each when the one before has succeeded.

    After a job that failed nothing is done until its error has been raised here: a later job may rely on it.

    Args:
      most: jobs that may be under way or waiting, at least 1.

    >>> done = []
    >>> jobs = Ordered(most=2)
    >>> for number in range(3):
    ...     jobs.make_room()
    ...     jobs.add(lambda number=number: done.append(number))
    >>> jobs.wait()
    >>> done
    [0, 1, 2]
    """

    def __init__(self, *, most: int):
        self._most = most
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ordered")
        self._left: collections.deque[concurrent.futures.Future[None]] = collections.deque()

    def make_room(self) -> None:
        """Returns when another job may be added; raises what an earlier one raised."""
        self._finish(self._most - 1)

    def add(self, job: Callable[[], None]) -> None:
        """Has the job done after all that were added before."""
        before = self._left[-1] if self._left else None

        def follow() -> None:
            if before is not None:
                before.result()
            job()

        self._left.append(self._pool.submit(follow))

    def wait(self) -> None:
        """Returns when nothing is left to do; raises what a job raised, once."""
        self._finish(0)

    def _finish(self, left: int) -> None:
        while self._left and (len(self._left) > left or self._left[0].done()):
            try:
                self._left.popleft().result()
            except BaseException:
                concurrent.futures.wait(self._left)  # they rely on it, and end with the same error
                self._left.clear()
                raise

    def close(self) -> None:
        """Ends the thread, after what is left; errors are those of `wait`."""
        self._pool.shutdown()
