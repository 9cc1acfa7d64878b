"""A terminal for our own lines: what orbax logs while it works stays out of it."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import warnings
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


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Shows a warning as one line without the path of the library that it is from; Pillow's are dropped.

    Pillow warns of what it reads all the same (odd EXIF tags, large images), and does not say in which file.
    """

    def show(message: Warning | str, *_: object) -> None:
        print(f"alignment-jax: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        warnings.showwarning = show  # type: ignore[assignment]  # catch_warnings puts it back
        yield


def _is_not_of_orbax(record: LogRecord) -> bool:
    return "orbax" not in pathlib.PurePath(record.pathname).parts
