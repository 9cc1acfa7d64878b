"""Progress of an extraction: lines with the speed of both encoders and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from alignment_jax.report import format_seconds


class ExtractProgress:
    """Callback of type `extract.OnProgress`; shows a line after the first batch, then at intervals, and at the end.

    The speed is separate for each side, because an image takes much longer than a text. Items that an earlier call
    stored do not count.

    Args:
      quiet: show nothing.
      interval: seconds between two lines.
      stream: for the lines; None for stderr.
      clock: monotonic seconds.

    >>> import itertools
    >>> show = ExtractProgress(stream=sys.stdout, clock=itertools.count().__next__)
    >>> for side in ("image", "text"):
    ...     show(side, 0, 8, False)
    >>> show("image", 4, 8, True)
    4 of 8 images, 4.0 a second; 0 of 8 texts; 1.0 s left for images
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        interval: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._quiet, self._interval, self._stream, self._clock = quiet, interval, stream, clock
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._encoded: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._latest = clock()
        self._shown = -float("inf")

    def __call__(self, side: str, done: int, total: int, encoded: bool) -> None:
        now = self._clock()
        if encoded:
            self._encoded[side] = self._encoded.get(side, 0) + done - self._done.get(side, 0)
            self._seconds[side] = self._seconds.get(side, 0.0) + now - self._latest
        self._done[side], self._total[side], self._latest = done, total, now
        finished = self._done == self._total
        if not self._quiet and (finished or (encoded and now - self._shown >= self._interval)):
            self._shown = now
            print(self._line(), file=self._stream or sys.stderr, flush=True)

    def _line(self) -> str:
        parts, left = [], {}
        for side, total in self._total.items():
            part = f"{self._done[side]} of {total} {side}s"
            seconds = self._seconds.get(side, 0.0)
            if seconds > 0:
                rate = self._encoded[side] / seconds
                part += f", {rate:.1f} a second"
                left[side] = (total - self._done[side]) / rate
            parts.append(part)
        unknown = [side for side, total in self._total.items() if side not in left and self._done[side] < total]
        waiting = [side for side, seconds in left.items() if seconds]
        if waiting:
            of = f" for {' and '.join(f'{side}s' for side in waiting)}" if unknown else ""
            parts.append(f"{format_seconds(sum(left.values()))} left{of}")
        return "; ".join(parts)
