"""Common types of table readers: a header, and rows whose cells are texts or files."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from alignment_jax.data.record_fields import RecordField

_TEXT_KEYS = ("raw", "text", "caption", "path")


class CellFile(NamedTuple):
    """A file inside a cell: a unique name, and the record field with its bytes."""

    name: str
    item: RecordField


Cells = list[str | CellFile]


class TableReader(NamedTuple):
    """A table: its header, and a function that reads rows.

    Attributes:
      header: names of the columns, stripped.
      rows: numbers of columns -> for each row (cells in these columns, file and row), or (None, message) for a bad row.
    """

    header: list[str]
    rows: Callable[[Sequence[int]], Iterator[tuple[Cells | None, str]]]


def cell_text(value: Any) -> str:
    """The text of a cell of any type; "" for a missing value. An object must have exactly one text field.

    Raises:
      ValueError: an object without such a text.

    >>> [cell_text(value) for value in (3, None, float("nan"), "a dog ", ["a", "b"])]
    ['3', '', '', 'a dog ', '["a", "b"]']
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, dict):
        texts = [value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)]
        if len(texts) != 1:
            raise ValueError("an object")
        return cell_text(texts[0])
    if isinstance(value, list | tuple):
        return json.dumps([cell_text(each) if isinstance(each, dict) else each for each in value], ensure_ascii=False)
    if isinstance(value, bytes):
        raise ValueError("bytes")
    return str(value)


def row_of(
    values: Iterable[Any], where: str, path: pathlib.Path | None = None, number: int = 0
) -> tuple[Cells | None, str]:
    """Converts the cells of a row; with `path`, bytes are embedded files."""
    found: Cells = []
    try:
        for value in values:
            content = value.get("bytes") if isinstance(value, dict) else value
            if path is not None and isinstance(content, bytes):
                record = RecordField({number: {"bytes": content}}, number, "bytes", str(path), len(content))
                found.append(CellFile(f"{path.name}/{number}", record))
            elif isinstance(value, dict) and "bytes" in value:  # only its path is stored
                found.append(cell_text(value.get("path")))
            else:
                found.append(cell_text(value))
    except (ValueError, TypeError) as error:
        what = str(error) if isinstance(error, ValueError) else "a list, but not of texts"
        return None, f"{where}: a cell holds {what}; write a text or a list of texts"
    return found, where
