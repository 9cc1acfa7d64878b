"""Checks the files of a data set before training, with progress lines."""

from __future__ import annotations

import hashlib
import pathlib
import sys
import time
from collections.abc import Callable
from typing import TextIO

from alignment_jax import data, report


def check_source_files(source: data.PairSource, *, threads: int, quiet: bool = False) -> None:
    """Decodes every file of all splits that has not passed the check before (see `data.check_files`).

    Args:
      source: the data set.
      threads: that decode.
      quiet: print no progress.

    Raises:
      DataError: some cannot be read.
    """
    name = hashlib.sha256(f"{pathlib.Path.cwd()}\0{source.spec}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    data.check_files(
        source,
        threads=threads,
        memory=pathlib.Path.home() / ".cache" / "alignment_jax" / "checked_files" / name,
        progress=(lambda done, total: None) if quiet else print_progress(),
    )


def print_progress(
    *, interval: float = 10.0, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Callable[[int, int], None]:
    """(done, total) -> None: prints one progress line per interval, none within the first.

    Args:
      interval: seconds between two lines.
      stream: where to print; None for the standard error stream.
      clock: monotonic seconds.

    >>> import itertools
    >>> show = print_progress(stream=sys.stdout, clock=itertools.count(0, 6).__next__)
    >>> for done in (1000, 2000, 3000):
    ...     show(done, 4000)
    checking files: 2000 of 4000; 12.0 s left
    """
    start = shown = clock()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = clock()
        if now - shown >= interval:
            shown = now
            left = report.format_seconds((now - start) * (total - done) / done)
            print(f"checking files: {done} of {total}; {left} left", file=stream or sys.stderr, flush=True)

    return show
