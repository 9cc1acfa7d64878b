"""A record of measurements, one JSON object a line, so that an interrupted command continues."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


def kept_row(
    record: str | os.PathLike[str], key: Mapping[str, Any], measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The row of the record that holds `key`; without one, `measure()` is appended, with the key, and printed."""
    from alignment_jax.report import append_row, read_rows

    for row in read_rows(record):
        if row.items() >= key.items():
            return row
    row = {**key, **measure()}
    append_row(record, row)
    print(row, flush=True)
    return row
