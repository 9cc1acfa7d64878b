"""Keeps log records of orbax and paths of libraries out of the terminal."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import warnings
from collections.abc import Iterator
from logging import LogRecord

from absl import logging


@contextlib.contextmanager
def without_orbax_logs() -> Iterator[None]:
    """Drops orbax's log records in the block.

    Orbax logs every step, and the traceback of every error that it raises. It logs through absl's logger; records of
    other libraries pass.
    """
    logger = logging.get_absl_logger()
    logger.addFilter(_is_not_of_orbax)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_of_orbax)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Shows a warning as one line without the path of its library; drops the warnings of Pillow.

    Pillow warns of files that it can read (unusual EXIF tags, large images), without their names.
    """

    def show(message: Warning | str, *_: object) -> None:
        print(f"alignment-jax: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        warnings.showwarning = show  # type: ignore[assignment]  # catch_warnings restores it
        yield


def _is_not_of_orbax(record: LogRecord) -> bool:
    return "orbax" not in pathlib.PurePath(record.pathname).parts
