"""SIGTERM and Ctrl-C as a request to save and leave, agreed on by all processes of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from jax.experimental import multihost_utils

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.train import processes

INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


class StopRequest:
    """Whether to save and leave.

    Attributes:
      by: "SIGTERM", "Ctrl-C", or "" while nobody has asked.
    """

    def __init__(self, reached: Callable[[int], bool] | None = None):
        self.by = ""
        self._reached = reached

    def __call__(self, first: int, last: int) -> bool:
        """Whether to save and leave after the steps first + 1 ... last.

        In a run of several processes JAX's preemption service, which catches the signal itself, settles on one step for
        all of them; it has to hear of every single one.
        """
        if self._reached is not None and any(self._reached(step) for step in range(first + 1, last + 1)):
            self.by = "SIGTERM"
        return bool(self.by)


@contextlib.contextmanager
def preemption(saved: Callable[[], bool] = lambda: True) -> Iterator[StopRequest]:
    """Catches SIGTERM and Ctrl-C within the block; a second Ctrl-C ends the process at once with status 130.

    In a run of several processes, and outside of the main thread, Ctrl-C is what it always is.

    Args:
      saved: whether a checkpoint exists, which the answer to Ctrl-C says; called from another thread.

    Yields:
      What the loop asks after every step.
    """
    if processes.several():
        yield StopRequest(multihost_utils.reached_preemption_sync_point)
        return
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield request
        return

    def note(number: int, frame: object) -> None:
        request.by = request.by or _NAMES[number]

    before = {number: signal.signal(number, note) for number in _NAMES}
    try:
        with _heard_at_once(request, saved):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_NAMES: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


@contextlib.contextmanager
def _heard_at_once(request: StopRequest, saved: Callable[[], bool]) -> Iterator[None]:
    """Answers Ctrl-C from a thread: while XLA compiles, Python runs no handler of a signal."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def listen() -> None:
        interrupts = 0
        while heard := os.read(read, 64):
            for number in heard:
                request.by = request.by or _NAMES.get(number, "")
                if number == signal.SIGINT:
                    interrupts += 1
                    _say(interrupts, saved())
                    if interrupts > 1:
                        os._exit(INTERRUPTED)  # files are written whole or not at all, as when it is killed

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


def _say(interrupts: int, saved: bool) -> None:
    kept = "the last checkpoint stays" if saved else "no checkpoint exists yet, so the same command begins anew"
    line = (
        f"\ninterrupted: it ends once the step under way is done and saved; Ctrl-C again ends it at once ({kept})"
        if interrupts == 1
        else f"\ninterrupted again: ended without saving; {kept}"
    )
    with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
        print(line, file=sys.stderr, flush=True)


__getattr__ = renamed_names(__name__, {"Request": "StopRequest"})
