"""The errors a person can act on.

Everything that the person at the keyboard can mend (a wrong file, a wrong setting, a missing package) is a `UserError`
with one line that says what is wrong, where, and what to change. The command line prints that line and exits with
status 2; anything a run itself did wrong is a `RunError` and exits with status 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Line ends and control characters, which names in a data set may hold: a message is one line, harmless in a terminal.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+")


def one_line(text: str) -> str:
    """The text as one line that any terminal can show, whatever a data set's names hold.

    >>> one_line("a\\x1b[31mb\\nc")
    'a [31mb c'
    """
    return _CONTROL.sub(" ", text)


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, and all of them.

    >>> suggest("imag", ["image", "text"])
    ", did you mean 'image'? known: image, text"
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return (f", did you mean {near[0]!r}?" if near else ";") + f" known: {', '.join(known)}"


class AlignmentError(Exception):
    """Base of every error raised on purpose by this package."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class UserError(AlignmentError, ValueError):
    """Bad input or configuration: names what, where and what to do. Exit status 2.

    It is a `ValueError` too, so that code which uses single functions can catch it without importing this class.
    """

    exit_status = 2


class DataError(UserError):
    """A file or a row of a data set is unusable; the message names both."""


class UnreadableFileError(DataError):
    """A file of one sample cannot be read: it can be mended, or left out."""


class ConfigError(UserError):
    """A setting is unknown, out of range or contradicts another one; the message names it."""


class MissingPackageError(UserError):
    """An optional package is needed; the message says which extra installs it."""


class RunError(AlignmentError):
    """A run or a checkpoint failed (non-finite loss, damaged checkpoint). Exit status 1."""
