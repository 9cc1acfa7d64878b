"""A terminal for our own lines: what orbax logs while it works stays out of it."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from logging import LogRecord

from absl import logging


@contextlib.contextmanager
def without_orbax() -> Iterator[None]:
    """Drops orbax's log records while the block runs.

    Orbax logs every step of its work, and what it then raises with its traceback; an error is one line of ours. It logs
    through absl's logger, which other libraries use too: their records pass.
    """
    logger = logging.get_absl_logger()
    logger.addFilter(_is_not_of_orbax)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: LogRecord) -> bool:
    return "orbax" not in pathlib.PurePath(record.pathname).parts
