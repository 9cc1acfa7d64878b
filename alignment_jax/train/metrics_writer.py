"""Writes metrics to metrics.jsonl and to the writers that the configuration turns on."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax import report


class MetricsWriter:
    """Writes rows; on resuming, first drops the rows after the step of the checkpoint.

    Args:
      workdir: gets metrics.jsonl, and the files of the writers.
      resume_step: step of the checkpoint; -1 without one, so that a row of step 0 is written again.
      primary: whether this process writes; the others do nothing.
      writers: names of `report.METRIC_WRITERS`.
      config: of the run, for the writers.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        resume_step: int,
        primary: bool,
        writers: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ):
        self._metrics = report.MetricsLog(workdir / "metrics.jsonl") if primary else None
        self._writers: list[report.MetricWriter] = []
        with contextlib.ExitStack() as stack:
            if self._metrics is not None:
                stack.callback(self._metrics.close)
                self._metrics.truncate_after(resume_step)
            for name in writers if primary else ():
                self._writers.append(report.METRIC_WRITERS[name](workdir, config or {}, resume_step))
                stack.callback(self._writers[-1].close)
            self._close = stack.pop_all().close

    def write(self, step: int, row: dict[str, float], *, epoch: int) -> None:
        """Appends one row."""
        if self._metrics is not None:
            self._metrics.write(step, row, epoch=epoch)
        for writer in self._writers:
            writer.write_scalars(step, row)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
