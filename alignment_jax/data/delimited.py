"""Reads delimited text; detects the separator (comma, semicolon, tab, bar) and the quoting."""

from __future__ import annotations

import csv
import io
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from alignment_jax.core.errors import DataError

Record = tuple[list[str], int]  # fields, and the number of the first line

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_QUOTED: dict[str, Any] = {"strict": True}
_BARE: dict[str, Any] = {"quoting": csv.QUOTE_NONE}
_SPACED: dict[str, Any] = {"strict": True, "skipinitialspace": True}  # a, "b"
_HINT = re.compile(r"sep=(.)\r?\n")
_HEADER = 1 << 16  # characters in which a header ends
# separator -> dialects, the usual one first
_WAYS: dict[str, tuple[dict[str, Any], ...]] = {
    ",": (_QUOTED, _SPACED),
    ";": (_QUOTED, _SPACED),
    "\t": (_QUOTED, _BARE),
    "|": (_QUOTED, _BARE),
}


class Delimited(NamedTuple):
    """The records of a table, header first; `separator`: plural noun for messages."""

    records: list[Record]
    separator: str


def read_delimited(text: str, path: pathlib.Path, *, known: Callable[[str], bool]) -> Delimited:
    """Reads a table whose first record is a header.

    The separator is the one with most known names in the header, then with most fields. Tabs and bars are read with and
    without quoting, and the reading with more complete rows wins: an unpaired quote at the start of a caption would
    otherwise swallow rows.

    Args:
      text: the content.
      path: file, for messages.
      known: whether a column name is one of those wanted.

    Raises:
      DataError: it is not a delimited table; the message names the line.

    >>> read_delimited("image;caption\\na.png;one, two\\n", pathlib.Path("x.csv"), known="image".__eq__).records[1]
    (['a.png', 'one, two'], 2)
    """
    if (hint := _HINT.match(text)) and hint[1] in _SEPARATORS:
        text, separator, skipped = text[hint.end() :], hint[1], 1  # a hint line that Excel writes
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
    if best is None:  # the usual dialect, with its errors
        best = list(split_records(text, path, delimiter=separator, **_WAYS[separator][0]))
    return Delimited([(fields, line + skipped) for fields, line in best], _SEPARATORS[separator])


def _fit(text: str, separator: str, known: Callable[[str], bool]) -> tuple[int, int]:
    try:
        header = next(split_records(text, pathlib.Path(), delimiter=separator, strict=True), ([], 0))[0]
    except DataError:
        return 0, 0
    return sum(known(name.strip()) for name in header), len(header)


def split_records(text: str, path: pathlib.Path, **settings: Any) -> Iterator[Record]:
    """Non-blank records with the number of their first line; `settings` are those of `csv.reader`."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # captions may exceed the 128 KiB of the csv module
    # Not str.splitlines, which also splits at U+2028, U+0085 and others that a caption may hold.
    reader = csv.reader(io.StringIO(text, newline=""), **settings)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield fields, line
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: not valid CSV: a quote is not closed, or text follows a closing quote; inside "
            'quotes write "" for "'
        ) from error
    finally:
        csv.field_size_limit(limit)


def ragged(fields: Sequence[str], header: Sequence[str], separator: str) -> str:
    """The message for a row whose number of fields differs from the header."""
    more = len(fields) > len(header)
    advice = f"quote fields that hold {separator}" if more else "write every field, also empty ones"
    return f"{len(fields)} fields, but the header has {len(header)}; {advice}"
