"""Progress of a run: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TextIO

from alignment_jax.core.errors import MissingPackageError
from alignment_jax.core.optional import require
from alignment_jax.report.machine import format_bytes, format_seconds, host_memory, peak_host_memory

# Number of updates over which the speed is measured.
_WINDOW = 64


class Progress:
    """Progress of a run: steps/s, pairs/s, time left, memory, and the latest metrics.

    On a terminal it draws a tqdm bar (plain lines without tqdm), elsewhere it prints a line every `interval` seconds.
    Lines and messages go to `log_path` too, with the time. Metrics become text only when a line is due, so device
    arrays may be passed at every step without blocking.

    Args:
      total_steps: the step at which the run ends.
      start_step: steps done before; above 0 when resumed.
      log_path: log file to append to; None for none.
      pairs_per_step: size of the global batch, for pairs/s; `update` may pass the exact number.
      interval: seconds between two lines in the log file and on a stream that is no terminal.
      stream: output; None for standard error.
      quiet: write to the log file only.
      device_memory: returns the bytes in use on the device, None where unknown; called when a line is due.
      clock: returns monotonic seconds.

    >>> import io, itertools
    >>> shown = io.StringIO()
    >>> with Progress(4, pairs_per_step=32, stream=shown, clock=itertools.count().__next__) as progress:
    ...     for step in range(1, 5):
    ...         progress.update(step, {"train/loss": 1.0 / step})
    >>> shown.getvalue().splitlines()[-1]  # doctest: +ELLIPSIS
    'step 4/4 (100 %), ... steps/s, ... pairs/s, done in ..., host ... train/loss 0.25'
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        log_path: str | os.PathLike[str] | None = None,
        *,
        pairs_per_step: float | None = None,
        interval: float = 10.0,
        stream: TextIO | None = None,
        quiet: bool = False,
        device_memory: Callable[[], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = int(total_steps)
        self.start_step = int(start_step)
        self.pairs_per_step = pairs_per_step
        self._interval = interval
        self._stream = None if quiet else (sys.stderr if stream is None else stream)
        self._device_memory = device_memory
        self._clock = clock
        self._log: IO[str] | None = None
        if log_path is not None:
            pathlib.Path(log_path).parent.mkdir(parents=True, exist_ok=True)
            self._log = open(log_path, "a", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115
        self._started = clock()
        self._paused = 0.0
        self._pauses: list[float] = []
        self._step = self.start_step
        self._pairs = 0.0
        self._peak_device: int | None = None
        # (active seconds, step, pairs): the start, and the latest updates.
        self._recent: collections.deque[tuple[float, int, float]] = collections.deque(maxlen=_WINDOW)
        self._recent.append((0.0, self._step, 0.0))
        self._latest_line: float | None = None
        self._latest_draw: float | None = None
        self._metrics: Mapping[str, Any] = {}
        self._bar = self._make_bar()

    def _make_bar(self) -> Any:
        if self._stream is None or not self._stream.isatty():
            return None
        try:
            tqdm = require("tqdm", extra="train", purpose="draw a progress bar")
        except MissingPackageError:
            return None  # plain lines instead
        return tqdm.tqdm(
            total=self.total_steps,
            initial=self.start_step,
            file=self._stream,
            dynamic_ncols=True,
            leave=True,
            # tqdm's own speed would count evaluations and checkpoints as slow steps.
            bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
        )

    def update(self, step: int, metrics: Mapping[str, Any] | None = None, *, pairs: float | None = None) -> None:
        """Reports that `step` steps are done.

        Args:
          step: optimiser steps done so far, counted from the start of the whole run.
          metrics: to show beside the speed; numbers or device scalars.
          pairs: pairs used since the last update; None for `pairs_per_step` a step.
        """
        now = self._clock()
        advance = int(step) - self._step
        self._step = int(step)
        if pairs is not None:
            self._pairs += pairs
        elif self.pairs_per_step is not None:
            self._pairs += self.pairs_per_step * advance
        self._recent.append((now - self._started - self._paused, self._step, self._pairs))
        if metrics:
            self._metrics = metrics
        if self._bar is not None:
            if self._latest_draw is None or now - self._latest_draw >= 0.5 or self._step >= self.total_steps:
                self._bar.set_postfix_str(", ".join(self._status(now)), refresh=False)
                self._latest_draw = now
            self._bar.update(advance)
        # The first line (end of compilation) and the last one do not wait for the interval.
        if self._latest_line is None or now - self._latest_line >= self._interval or self._step >= self.total_steps:
            self._latest_line = now
            share = 100 * self._step // max(self.total_steps, 1)
            line = ", ".join([f"step {self._step}/{self.total_steps} ({share} %)", *self._status(now)])
            self._write_log(line)
            if self._bar is None:
                self._show(line)

    def _speed(self) -> tuple[float | None, float | None]:
        """Steps/s and pairs/s over the latest updates, pauses left out."""
        (begin, first, before), (end, last, after) = self._recent[0], self._recent[-1]
        if len(self._recent) > 1 and first == self.start_step:
            begin, first, before = self._recent[1]  # the first update is mostly compilation
        if end <= begin or last <= first:
            return None, None
        return (last - first) / (end - begin), ((after - before) / (end - begin) if after else None)

    def seconds_left(self) -> float | None:
        """Seconds until `total_steps` at the current speed and frequency of pauses; None if unknown.

        The first update and the first pause include compilation and do not count.
        """
        steps_per_second, _ = self._speed()
        if not steps_per_second:
            return None
        later = self._pauses[1:]
        pause = sum(later) / len(later) if later else 0.0
        paused_per_step = pause * len(self._pauses) / max(self._step - self.start_step, 1)
        return max(self.total_steps - self._step, 0) * (1 / steps_per_second + paused_per_step)

    def _status(self, now: float) -> list[str]:
        steps_per_second, pairs_per_second = self._speed()
        facts = []
        if len(self._recent) == 2 and self._recent[0][1] == self.start_step:
            facts.append(f"{format_seconds(self._recent[1][0])} with compilation")
        if steps_per_second is not None:
            facts.append(f"{steps_per_second:.3g} steps/s")
        if pairs_per_second is not None:
            facts.append(f"{pairs_per_second:,.0f} pairs/s")
        if self._step >= self.total_steps:
            facts.append(f"done in {format_seconds(now - self._started)}")
        elif (left := self.seconds_left()) is not None:
            facts.append(f"{format_seconds(left)} left")
        memory = f"host {format_bytes(host_memory())}"
        if self._device_memory is not None and (used := self._device_memory()) is not None:
            self._peak_device = max(used, self._peak_device or 0)
            memory += f", device {format_bytes(used)}"
        facts.append(memory)
        facts.extend(f"{name} {_short(value)}" for name, value in self._metrics.items())
        return facts

    def message(self, text: str) -> None:
        """Shows a line (above the bar, if any) and writes it to the log file with the time."""
        self._write_log(text)
        self._show(text)

    @contextlib.contextmanager
    def pause(self, text: str | None = None) -> Iterator[None]:
        """Excludes the time of the block, such as an evaluation or a checkpoint, from steps/s.

        Args:
          text: a message to show first.
        """
        if text:
            self.message(text)
        begin = self._clock()
        try:
            yield
        finally:
            self._pauses.append(self._clock() - begin)
            self._paused += self._pauses[-1]

    def totals(self) -> dict[str, float]:
        """Cost of this process so far: steps, pairs, seconds, pairs_per_second and memory, as far as known.

        `seconds` is wall time since construction with pauses; `pairs_per_second` is without them.
        """
        seconds = self._clock() - self._started
        totals: dict[str, float] = {"steps": self._step - self.start_step, "seconds": seconds}
        if self._pairs:
            totals["pairs"] = self._pairs
            if seconds > self._paused:
                totals["pairs_per_second"] = self._pairs / (seconds - self._paused)
        if (host := peak_host_memory()) is not None:
            totals["peak_host_bytes"] = host
        if self._peak_device is not None:
            totals["peak_device_bytes"] = self._peak_device
        return totals

    def close(self) -> None:
        """Ends the bar and closes the log file."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._stream is not None:
            print(text, file=self._stream, flush=True)

    def _write_log(self, text: str) -> None:
        if self._log is not None:
            self._log.write(_stamped(text))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def append_to_log(path: str | os.PathLike[str], text: str) -> None:
    """Adds a line with the time to the log file of a run that has ended its `Progress`."""
    with open(path, "a", encoding="utf-8", errors="replace") as file:
        file.write(_stamped(text))


def _stamped(text: str) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S%z")
    return "".join(f"{stamp}  {line}\n" for line in text.splitlines() or [""])


def _short(value: Any) -> str:
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)
