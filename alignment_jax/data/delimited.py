"""Comma, semicolon, tab or bar: which one separates the fields of a table, and whether quotes quote."""

from __future__ import annotations

import csv
import io
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from alignment_jax.core.errors import DataError

Record = tuple[list[str], int]  # fields, and the line it begins on

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_QUOTED: dict[str, Any] = {"strict": True}
_BARE: dict[str, Any] = {"quoting": csv.QUOTE_NONE}
_SPACED: dict[str, Any] = {"strict": True, "skipinitialspace": True}  # a, "b"
_SAID = re.compile(r"sep=(.)\r?\n")
_HEADER = 1 << 16  # characters in which a header ends
# separator -> ways to read it, the usual first
_WAYS: dict[str, tuple[dict[str, Any], ...]] = {
    ",": (_QUOTED, _SPACED),
    ";": (_QUOTED, _SPACED),
    "\t": (_QUOTED, _BARE),
    "|": (_QUOTED, _BARE),
}


class Delimited(NamedTuple):
    """The records of a table, its header first; `separator`: what separates fields, as a plural for messages."""

    records: list[Record]
    separator: str


def read_delimited(text: str, path: pathlib.Path, *, known: Callable[[str], bool]) -> Delimited:
    """Reads a table whose first record is a header.

    The separator is the one that finds most known names in the header, then most fields. Tabs and bars are written with
    and without quoting: quotes are ordinary characters where that gives more rows and all of them are whole, because a
    quote at the beginning of a caption would swallow the rows up to the next one.

    Args:
      text: the content.
      path: where it stands, for messages.
      known: whether a name of a column is one that is looked for.

    Raises:
      DataError: it cannot be read as such a table; the message names the line.

    >>> read_delimited("image;caption\\na.png;one, two\\n", pathlib.Path("x.csv"), known="image".__eq__).records[1]
    (['a.png', 'one, two'], 2)
    """
    if (said := _SAID.match(text)) and said[1] in _SEPARATORS:
        text, separator, skipped = text[said.end() :], said[1], 1  # a line that Excel writes for itself
    else:
        separator, skipped = max(_SEPARATORS, key=lambda each: _fit(text[:_HEADER], each, known)), 0
    best: list[Record] | None = None
    for way in _WAYS[separator]:
        try:
            records = list(split_records(text, path, delimiter=separator, **way))
        except DataError:
            continue
        whole = all(len(fields) == len(records[0][0]) for fields, _ in records)
        if whole and (best is None or len(records) > len(best)):
            best = records
        if whole and way is _QUOTED and _BARE not in _WAYS[separator]:
            break
    if best is None:  # the usual way, whatever it finds or raises
        best = list(split_records(text, path, delimiter=separator, **_WAYS[separator][0]))
    return Delimited([(fields, line + skipped) for fields, line in best], _SEPARATORS[separator])


def _fit(text: str, separator: str, known: Callable[[str], bool]) -> tuple[int, int]:
    try:
        header = next(split_records(text, pathlib.Path(), delimiter=separator, strict=True), ([], 0))[0]
    except DataError:
        return 0, 0
    return sum(known(name.strip()) for name in header), len(header)


def split_records(text: str, path: pathlib.Path, **settings: Any) -> Iterator[Record]:
    """Records that are not blank lines, each with the line it begins on; `settings` are those of `csv.reader`."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a caption may be longer than the module's 128 KiB
    # Not str.splitlines, which also splits at characters that a caption may hold (U+2028, U+0085, ...).
    reader = csv.reader(io.StringIO(text, newline=""), **settings)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield fields, line
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: not valid CSV: a quote that is never closed, or text after a closing one; inside "
            'quotes write "" for "'
        ) from error
    finally:
        csv.field_size_limit(limit)


def ragged(fields: Sequence[str], header: Sequence[str], separator: str) -> str:
    """What is wrong with a row of another number of fields than the header's, and what to do."""
    more = len(fields) > len(header)
    advice = f"quote fields that hold {separator}" if more else "write every field, empty ones too"
    return f"{len(fields)} fields, but the header has {len(header)}; {advice}"
