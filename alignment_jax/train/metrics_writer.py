"""Writes metrics to metrics.jsonl and TensorBoard."""

from __future__ import annotations

import pathlib

from alignment_jax import report


class MetricsWriter:
    """Writes rows; on resuming, first drops the rows after the step of the checkpoint.

    Args:
      workdir: gets metrics.jsonl and tensorboard/.
      resume_step: step of the checkpoint; -1 without one, so that a row of step 0 is written again.
      primary: whether this process writes; the others do nothing.
      tensorboard: write event files too.
    """

    def __init__(self, workdir: pathlib.Path, *, resume_step: int, primary: bool, tensorboard: bool):
        self._metrics = report.MetricsLog(workdir / "metrics.jsonl") if primary else None
        if self._metrics is not None:
            self._metrics.truncate_after(resume_step)
        self._tensorboard = None
        if primary and tensorboard:
            self._tensorboard = report.TensorBoardLog(workdir / "tensorboard", resume_step=resume_step)

    def write(self, step: int, row: dict[str, float], *, epoch: int) -> None:
        """Appends one row."""
        if self._metrics is not None:
            self._metrics.write(step, row, epoch=epoch)
        if self._tensorboard is not None:
            self._tensorboard.write(step, row)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        for log in (self._metrics, self._tensorboard):
            if log is not None:
                log.close()
