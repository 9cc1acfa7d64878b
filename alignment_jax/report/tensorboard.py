"""Writes scalars for TensorBoard without TensorFlow."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from alignment_jax.core.optional import require


class TensorBoardLog:
    """Writes scalars to a TensorBoard folder.

    Args:
      folder: of the event files; created when missing.
      resume_step: the step of the checkpoint that a run resumes from: TensorBoard hides later steps of the earlier
        process. The argument of `MetricsLog.truncate_after`. None for a new run.

    Raises:
      MissingPackageError: tensorboardX is not installed.

    >>> import tempfile
    >>> with TensorBoardLog(tempfile.mkdtemp()) as log:
    ...     log.write(1, {"train/loss": 2.5})
    """

    def __init__(self, folder: str | os.PathLike[str], *, resume_step: int | None = None) -> None:
        with _without_torch():
            tensorboardx = require("tensorboardX", extra="train", purpose="write TensorBoard scalars")
        self._writer = tensorboardx.SummaryWriter(
            os.fspath(folder),
            # TensorBoard hides events with step >= purge_step; the resumed step itself is kept.
            purge_step=None if resume_step is None else int(resume_step) + 1,
            # File names resolve one second: without this, a quick restart would overwrite the earlier file.
            filename_suffix=f".{time.time_ns()}",
        )

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one point to the curve of every number in `metrics`; strings and None are skipped.

        Args:
          step: optimiser steps done so far.
          metrics: name -> number; scalars of NumPy and JAX too.
        """
        for name, value in metrics.items():
            if value is not None and not isinstance(value, str):
                self._writer.add_scalar(name, float(value), int(step))

    write_scalars = write  # as clu.metric_writers calls it

    def flush(self) -> None:
        """Flushes to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and ends the thread of the writer."""
        self._writer.close()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Imports of torch in the block fail: tensorboardX works without it, and importing it takes seconds."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
