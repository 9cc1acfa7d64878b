"""`metrics.jsonl`: the metrics of a run, one JSON object per line; appending after a crash is safe."""

from __future__ import annotations

import io
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from alignment_jax.core.errors import RunError
from alignment_jax.core.jsonl import encode_row, end_last_line, read_lines, read_rows, write_lines

# JSON has no NaN and no infinity: the value is null, and its spelling is under this key of the same line.
NON_FINITE = "non_finite"
_SPELLING = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode_line(row: Mapping[str, Any]) -> bytes:
    """Writes one row as one line of valid JSON.

    NaN and the infinities become null, and the line gets `"non_finite": {key: "NaN" | "Infinity" | "-Infinity"}`, from
    which `read_metrics` restores them. Scalars of NumPy and JAX are numbers.

    Raises:
      ValueError: a value is neither a number, a string, a bool nor None; the message names its key.

    >>> encode_line({"step": 3, "train/loss": float("nan")})
    b'{"step": 3, "train/loss": null, "non_finite": {"train/loss": "NaN"}}\\n'
    """
    plain: dict[str, Any] = {}
    lost: dict[str, str] = {}
    for key, value in row.items():
        number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if isinstance(number, float) and not math.isfinite(number):
            lost[key] = "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")
            number = None
        if not (number is None or isinstance(number, bool | int | float | str)):
            raise ValueError(f"metric {key!r} must be one number, got {type(value).__name__} {value!r:.60}")
        plain[key] = number
    if lost:
        plain[NON_FINITE] = lost
    return encode_row(plain)


def _restored(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its non-finite numbers restored."""
    lost = row.pop(NON_FINITE, None)
    if isinstance(lost, dict):
        row.update({key: _SPELLING[word] for key, word in lost.items() if word in _SPELLING})
    return row


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads `metrics.jsonl`, in file order.

    Args:
      path: the file; a missing file has no rows.

    Returns:
      One dict per line, non-finite numbers restored. A half-written last line of a killed run is left out.

    Raises:
      RunError: any other line is invalid; the message names file and line.

    >>> read_metrics("no/such/metrics.jsonl")
    []
    """
    return [_restored(row) for row in read_rows(path)]


class MetricsLog:
    """Appends rows to `metrics.jsonl`.

    Each line is one unbuffered write, so a killed process loses at most the line it was writing. The first write opens
    the file.

    Args:
      path: the file; missing folders are created.

    >>> import tempfile
    >>> with MetricsLog(pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl") as log:
    ...     log.write(10, {"train/loss": 2.5}, epoch=0)
    ...     log.write(20, {"val/a2b_R@1": 31.0}, epoch=1)
    ...     log.truncate_after(10)
    ...     log.read()
    [{'step': 10, 'epoch': 0, 'train/loss': 2.5}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self._file: io.FileIO | None = None

    def write(self, step: int, metrics: Mapping[str, Any], *, epoch: float | None = None) -> None:
        """Appends one line: `step`, `epoch` when given, then the metrics in their order.

        Args:
          step: optimiser steps done so far.
          metrics: name -> number (scalars of NumPy and JAX too), string, bool or None.
          epoch: passes over the training data done so far.

        Raises:
          ValueError: a metric is not one number, or is called `step`, `epoch` or `non_finite`.
          RunError: the line cannot be written, for example because the disk is full.
        """
        reserved = {"step", "epoch", NON_FINITE} & set(metrics)
        if reserved:
            raise ValueError(f"metrics must not hold the reserved key {sorted(reserved)[0]!r}; rename it")
        head: dict[str, Any] = {"step": int(step)} if epoch is None else {"step": int(step), "epoch": epoch}
        line = encode_line({**head, **metrics})
        try:
            if self._file is None:
                self._file = self._open()
            written = self._file.write(line)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from error
        if written != len(line):
            raise RunError(f"cannot write {self.path}: the disk took {written} of {len(line)} bytes; is it full?")

    def _open(self) -> io.FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end_last_line(self.path)
        return open(self.path, "ab", buffering=0)

    def truncate_after(self, step: int) -> None:
        """Deletes rows after `step`, atomically, for a run that resumes from the checkpoint of that step.

        Args:
          step: the last step to keep; rows of later steps and a half-written last line are deleted, other lines keep
            their bytes.

        Raises:
          RunError: a line other than the last is invalid or has no step; the file is unchanged.
        """
        kept = []
        lines = read_lines(self.path)
        for number, (line, row) in enumerate(lines, start=1):
            if not isinstance(row.get("step"), int | float):
                raise RunError(f"{self.path}, row {number}: no number under 'step'; repair or delete that line")
            if row["step"] <= step:
                kept.append(line)
        self.close()
        if self.path.exists():
            write_lines(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """All rows so far; see `read_metrics`."""
        return read_metrics(self.path)

    def close(self) -> None:
        """Closes the file; a later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
