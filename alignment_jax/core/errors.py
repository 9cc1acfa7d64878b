"""Exceptions of this package; every message is one line with the fault, its place and the next step.

Errors that users can fix (a wrong file, a wrong setting, a missing package) are `UserError`s: the command line prints
the message and exits with status 2. Failures of a run are `RunError`s, with status 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Line ends and control characters: names in a data set may contain them.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+")


def one_line(text: str) -> str:
    """The text in one line, without control characters.

    >>> one_line("a\\x1b[31mb\\nc")
    'a [31mb c'
    """
    return _CONTROL.sub(" ", text)


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one and the list.

    >>> suggest("imag", ["image", "text"])
    ", did you mean 'image'? known: image, text"
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return (f", did you mean {near[0]!r}?" if near else ";") + f" known: {', '.join(known)}"


class AlignmentError(Exception):
    """Base class of the errors that this package raises."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class UserError(AlignmentError, ValueError):
    """Bad input or configuration. Exit status 2.

    It is a `ValueError` too, so that callers of single functions can catch it without importing this class.
    """

    exit_status = 2


class DataError(UserError):
    """An unusable file or row of a data set; the message names both."""


class UnreadableFileError(DataError):
    """A file of one sample cannot be read; repair it or leave the sample out."""


class ConfigError(UserError):
    """A setting is unknown, out of range or contradicts another one; the message names it."""


class MissingPackageError(UserError):
    """An optional package is missing; the message names the extra that installs it."""


class RunError(AlignmentError):
    """A run or a checkpoint failed (non-finite loss, damaged checkpoint). Exit status 1."""
