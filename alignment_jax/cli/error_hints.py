"""What can be typed about a sample that cannot be read, in the flags of the command at hand."""

from __future__ import annotations

from alignment_jax.core.errors import AlignmentError, UnreadableFileError

_FLAG = "--on_bad_sample=skip"
_FLAGS = {
    **dict.fromkeys(("train", "compare"), "--config.input.on_bad_sample=skip"),
    **dict.fromkeys(("data", "evaluate", "embed", "extract"), _FLAG),
}


def in_flags(error: AlignmentError, command: str) -> str:
    """The message of an error, with a flag of the command where it is about a sample that may be left out.

    >>> in_flags(UnreadableFileError("x.png: damaged"), "embed")
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
