"""Bad samples: either the first one ends the loading, or all are dropped and listed."""

from __future__ import annotations

from alignment_jax.core.errors import ConfigError, DataError

ON_BAD_SAMPLE = ("error", "skip")


class BadSamples:
    """Collects one line for each bad sample; what happens to them is decided once, in `settle`.

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
        # One line each, which any terminal can show, whatever stands in a file name.
        self._lines.append(" ".join(line.splitlines()).encode("utf-8", "backslashreplace").decode())

    def finish(self) -> tuple[str, ...]:
        """The collected lines, if bad samples may be skipped.

        Raises:
          DataError: there are some, and they may not.
        """
        if self._lines and not self.skip:
            others = len(self._lines) - 1
            count = f"{others} more problem{'s' * (others > 1)}; " if others else ""
            and_ = "and " if others else ""
            raise DataError(
                f'{self._lines[0]} ({and_}{count}mend the data, or leave bad samples out with on_bad_sample="skip")'
            )
        return tuple(self._lines)
