"""Hints for samples that cannot be read, with the flag of the command."""

from __future__ import annotations

from alignment_jax.core.errors import AlignmentError, UnreadableFileError

_FLAG = "--on_bad_sample=skip"
_FLAGS = {
    **dict.fromkeys(("train", "compare"), "--config.input.on_bad_sample=skip"),
    **dict.fromkeys(("data", "evaluate", "embed", "extract", "search"), _FLAG),
}


def with_flag_hint(error: AlignmentError, command: str) -> str:
    """The message of an error; for a sample that may be left out, with the command's flag for that.

    >>> with_flag_hint(UnreadableFileError("x.png: damaged"), "embed")
    'x.png: damaged; mend the file, or leave it out with --on_bad_sample=skip'
    """
    message = str(error)
    flag = _FLAGS.get(command)
    if flag is None:
        return message
    message = message.replace('on_bad_sample="skip"', flag)
    if isinstance(error, UnreadableFileError) and flag not in message:
        message += f"; mend the file, or leave it out with {flag}"
    return message
