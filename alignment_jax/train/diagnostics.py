"""Diagnostics of training steps, on demand: a profile of some steps, and the operation that made a NaN."""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from alignment_jax.core.errors import ConfigError, RunError

FOLDER = "profile"


def parse_steps(text: str) -> tuple[int, int] | None:
    """First and last step of "100-110"; None for "".

    Raises:
      ConfigError: something else.

    >>> parse_steps("100-110")
    (100, 110)
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"train.profile is {text!r}; give the first and the last step, as in '100-110'")
    return int(found[1]), int(found[2])


class StepProfile:
    """Records a range of steps with JAX's profiler. `Plan.steps_ahead` ends calls of several steps at its ends.

    Args:
      steps: first and last step, counted from 1; None records nothing.
      workdir: gets `FOLDER`.
      message: called with one line when the profile is written.
    """

    def __init__(self, steps: tuple[int, int] | None, workdir: pathlib.Path, *, message: Callable[[str], None]):
        self._first, self._last = steps or (0, 0)
        self._folder, self._message, self._running = workdir / FOLDER, message, False

    def before(self, step: int) -> None:
        """Starts where the step after `step` belongs to the range."""
        if not self._running and self._first - 1 <= step < self._last:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, outputs: Any) -> None:
        """Ends once `step` is the last of the range; `outputs` are those of that step."""
        if self._running and step >= self._last:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Writes what was recorded."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._message(f"profile written to {self._folder}; `xprof {self._folder}` shows it")


@contextlib.contextmanager
def nan_check(enabled: bool) -> Iterator[None]:
    """Where enabled, a step that makes a NaN is repeated operation by operation, and the error names the operation.

    Raises:
      RunError: in place of JAX's FloatingPointError.
    """
    if not enabled:
        yield
        return
    try:
        with jax.debug_nans(True):
            yield
    except FloatingPointError as error:
        reason = next(iter(str(error).strip().splitlines()), "an operation made a NaN")
        raise RunError(f"train.debug_nans: {reason.rstrip('.')}; --debug prints the line of the code") from error
