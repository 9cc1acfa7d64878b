"""Collects bad samples: raises for them (`on_bad_sample="error"`), or skips and lists them ("skip")."""

from __future__ import annotations

from alignment_jax.core.errors import ConfigError, DataError

ON_BAD_SAMPLE = ("error", "skip")


class BadSamples:
    """Collects one line for each bad sample; `finish` raises or returns them.

    >>> bad = BadSamples("error")
    >>> bad.add("pairs.csv, row 3: no such file: x.jpg")
    >>> bad.add("pairs.csv, row 7: empty caption")
    >>> bad.finish()
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.DataError: pairs.csv, row 3: no such file: x.jpg (and 1 more problem; ...)
    """

    def __init__(self, on_bad_sample: str):
        if on_bad_sample not in ON_BAD_SAMPLE:
            raise ConfigError(f"on_bad_sample must be one of {', '.join(ON_BAD_SAMPLE)}, got {on_bad_sample!r}")
        self.skip = on_bad_sample == "skip"
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        # One line that any terminal can show, whatever a file name contains.
        self._lines.append(" ".join(line.splitlines()).encode("utf-8", "backslashreplace").decode())

    def finish(self) -> tuple[str, ...]:
        """The collected lines, with "skip".

        Raises:
          DataError: there are bad samples, with "error".
        """
        if self._lines and not self.skip:
            others = len(self._lines) - 1
            count = f"{others} more problem{'s' * (others > 1)}; " if others else ""
            and_ = "and " if others else ""
            raise DataError(
                f'{self._lines[0]} ({and_}{count}correct the data, or skip bad samples with on_bad_sample="skip")'
            )
        return tuple(self._lines)
