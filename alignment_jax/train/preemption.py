"""SIGTERM and Ctrl-C: save and stop, at the same step in all processes of a run."""

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

INTERRUPTED = 130  # exit status after Ctrl-C, as in a shell


class StopRequest:
    """A request to save and stop.

    Attributes:
      by: "SIGTERM", "Ctrl-C", or "" without a request.
    """

    def __init__(self, reached: Callable[[int], bool] | None = None):
        self.by = ""
        self._reached = reached

    def __call__(self, first: int, last: int) -> bool:
        """Whether to save and stop after the steps first + 1 ... last.

        In a run of several processes JAX's preemption service catches the signal and chooses one step for all of them;
        it must be called for every step.
        """
        if self._reached is not None and any(self._reached(step) for step in range(first + 1, last + 1)):
            self.by = "SIGTERM"
        return bool(self.by)


@contextlib.contextmanager
def preemption(saved: Callable[[], bool] = lambda: True) -> Iterator[StopRequest]:
    """Catches SIGTERM and Ctrl-C within the block; a second Ctrl-C ends the process at once with status 130.

    In a run of several processes, and outside of the main thread, Ctrl-C raises KeyboardInterrupt as usual.

    Args:
      saved: whether a checkpoint exists, for the message after Ctrl-C; called from another thread.

    Yields:
      The request, to be called after every step.
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
        with _answered_at_once(request, saved):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_NAMES: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


@contextlib.contextmanager
def _answered_at_once(request: StopRequest, saved: Callable[[], bool]) -> Iterator[None]:
    """Answers Ctrl-C from a thread: during a compilation by XLA Python runs no signal handlers."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def read_signals() -> None:
        interrupts = 0
        while numbers := os.read(read, 64):
            for number in numbers:
                request.by = request.by or _NAMES.get(number, "")
                if number == signal.SIGINT:
                    interrupts += 1
                    _print_answer(interrupts, saved())
                    if interrupts > 1:
                        os._exit(INTERRUPTED)  # safe: files are written atomically

    thread = threading.Thread(target=read_signals, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


def _print_answer(interrupts: int, saved: bool) -> None:
    kept = "the last checkpoint is kept" if saved else "no checkpoint exists yet: the same command starts from step 0"
    line = (
        f"\ninterrupted: stopping after this step, once it is saved; press Ctrl-C again to stop at once ({kept})"
        if interrupts == 1
        else f"\ninterrupted again: stopped without saving; {kept}"
    )
    with contextlib.suppress(OSError, ValueError):  # a closed terminal
        print(line, file=sys.stderr, flush=True)


__getattr__ = renamed_names(__name__, {"Request": "StopRequest"})
