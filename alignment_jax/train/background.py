"""Background jobs, run in the order in which they were added."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable


class BackgroundQueue:
    """Runs jobs one after the other in a background thread.

    A job runs only if the one before succeeded. After a failure no job runs until the error is raised in this thread.

    Args:
      max_pending: jobs that may run or wait at once, at least 1.

    >>> done = []
    >>> jobs = BackgroundQueue(max_pending=2)
    >>> for number in range(3):
    ...     jobs.wait_for_slot()
    ...     jobs.add(lambda number=number: done.append(number))
    >>> jobs.wait()
    >>> done
    [0, 1, 2]
    """

    def __init__(self, *, max_pending: int):
        self._max_pending = max_pending
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="background")
        self._left: collections.deque[concurrent.futures.Future[None]] = collections.deque()

    def wait_for_slot(self) -> None:
        """Blocks until another job may be added.

        Raises:
          Exception: the error of an earlier job.
        """
        self._finish(self._max_pending - 1)

    def add(self, job: Callable[[], None]) -> None:
        """Runs the job after all earlier ones."""
        before = self._left[-1] if self._left else None

        def follow() -> None:
            if before is not None:
                before.result()
            job()

        self._left.append(self._pool.submit(follow))

    def wait(self) -> None:
        """Blocks until all jobs are done.

        Raises:
          Exception: the error of a job, once.
        """
        self._finish(0)

    def _finish(self, left: int) -> None:
        while self._left and (len(self._left) > left or self._left[0].done()):
            try:
                self._left.popleft().result()
            except BaseException:
                concurrent.futures.wait(self._left)  # they depend on it and end with the same error
                self._left.clear()
                raise

    def close(self) -> None:
        """Ends the thread after the remaining jobs; `wait` raises their errors."""
        self._pool.shutdown()
