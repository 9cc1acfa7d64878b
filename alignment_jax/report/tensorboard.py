"""The same scalars for TensorBoard, written without TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from alignment_jax.core.optional import require


class TensorBoardLog:
    """Writes scalars to a TensorBoard folder.

    Args:
      folder: where the event files go; made when missing.
      resume_step: the step a resumed run starts from: TensorBoard then hides what an earlier process wrote for later
        steps. The same number that `MetricsLog.truncate_after` gets. None for a fresh run.

    Raises:
      MissingPackageError: tensorboardX is not installed.

    >>> import tempfile
    >>> with TensorBoardLog(tempfile.mkdtemp()) as log:
    ...     log.write(1, {"train/loss": 2.5})
    """

    def __init__(self, folder: str | os.PathLike[str], *, resume_step: int | None = None) -> None:
        tensorboardx = require("tensorboardX", extra="train", purpose="write TensorBoard scalars")
        self._writer = tensorboardx.SummaryWriter(
            os.fspath(folder),
            # TensorBoard hides events with step >= purge_step; the resumed step itself is kept.
            purge_step=None if resume_step is None else int(resume_step) + 1,
            # Event files are named by the second: without this, a quick restart would write over its predecessor.
            filename_suffix=f".{time.time_ns()}",
        )

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one point to the curve of every number in `metrics`; strings and None are passed over.

        Args:
          step: optimiser steps done so far.
          metrics: name to number; scalars of NumPy and JAX too.
        """
        for name, value in metrics.items():
            if value is not None and not isinstance(value, str):
                self._writer.add_scalar(name, float(value), int(step))

    def flush(self) -> None:
        """Hands everything written so far to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left and ends the writer's thread."""
        self._writer.close()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
