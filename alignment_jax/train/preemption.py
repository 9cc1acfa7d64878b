"""SIGTERM as a request to save and leave, agreed on by all processes of a run."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from jax.experimental import multihost_utils

from alignment_jax.train import processes


@contextlib.contextmanager
def preemption() -> Iterator[Callable[[int, int], bool]]:
    """Catches SIGTERM within the block.

    Yields:
      (first, last) -> whether to save and leave after the steps first + 1 ... last. In a run of several processes
      JAX's preemption service, which catches the signal itself, settles on one step for all of them; it has to hear
      of every single one.
    """
    if processes.several():
        yield lambda first, last: any(_reached(step) for step in range(first + 1, last + 1))
        return
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield lambda first, last: False
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: event.set())
    try:
        yield lambda first, last: event.is_set()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _reached(step: int) -> bool:
    return multihost_utils.reached_preemption_sync_point(step)
