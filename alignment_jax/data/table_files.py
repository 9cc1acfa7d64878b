"""A table from any file that people keep one in: delimited text, JSON, JSON lines, Parquet, a workbook.

Every reader returns a `Table`: a header, and rows whose cells are text. A list in a cell becomes its JSON text.
"""

from __future__ import annotations

import json
import math
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.optional import require
from alignment_jax.data.delimited import ragged, read_delimited
from alignment_jax.data.records import RecordField
from alignment_jax.data.text_files import first_bytes, parse_json, read_text

_TEXT_KEYS = ("raw", "text", "caption", "path")
_LINES = (".jsonl", ".ndjson")
_MOST_UNPACKED = 4 << 30  # bytes of a workbook
_SAVE = "save it as UTF-8"
_NAME = "if it is of Windows, add encoding=cp1252; else name its encoding so, or save it as UTF-8"
_ANOTHER = "save it again, or as CSV UTF-8"


class Embedded(NamedTuple):
    """A file that lies in a cell: a name for it that no other has, and its bytes when they are asked for."""

    name: str
    item: RecordField


Cells = list[str | Embedded]


class Table(NamedTuple):
    """A header and what comes after it.

    Attributes:
      header: names of the columns, stripped.
      rows: numbers of columns -> for each row its cells in these columns and where it stands; or, for a row that cannot
        be read, no cells and a message.
    """

    header: list[str]
    rows: Callable[[Sequence[int]], Iterator[tuple[Cells | None, str]]]


def open_table(
    path: pathlib.Path, *, known: Callable[[str], bool], encoding: str | None = None, sheet: str | None = None
) -> Table:
    """Opens a table by what the file holds, whatever it is called.

    Args:
      path: the file.
      known: whether a name of a column is one that is looked for.
      encoding: of a text file, see `read_text`; None where the SPEC has no such option,
        which messages then do not offer.
      sheet: of a workbook with more than one; "" for the only one; None as for `encoding`.

    Raises:
      ConfigError: `encoding` or `sheet` for a file that has none.
      DataError: the file cannot be read, is empty, or holds no table.
    """
    start = first_bytes(path, 8)
    if start.startswith((b"PAR1", b"PK\x03\x04")):
        if encoding:
            raise ConfigError(f"{path}: encoding={encoding} is for text files, and it is none; leave it out")
        return _parquet(path) if start.startswith(b"PAR1") else _workbook(path, sheet)
    if sheet:
        raise ConfigError(f"{path}: sheet={sheet} is for workbooks, and it is none; leave it out")
    text = read_text(path, encoding=encoding or "", save=_SAVE if encoding is None else _NAME)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if any(suffix in _LINES for suffix in suffixes) or text.lstrip()[:1] in ("{", "["):
        return _json(text, path, lines=any(suffix in _LINES for suffix in suffixes))
    return _delimited(text, path, known)


def cell(value: Any) -> str:
    """The text of a cell of any type; "" for a missing value. Of an object it is the one text that it holds.

    Raises:
      ValueError: an object without such a text.

    >>> [cell(value) for value in (3, None, float("nan"), "a dog ", ["a", "b"])]
    ['3', '', '', 'a dog', '["a", "b"]']
    """
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, dict):
        texts = [value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)]
        if len(texts) != 1:
            raise ValueError("an object, which is no text")
        return cell(texts[0])
    if isinstance(value, list | tuple):
        return json.dumps([cell(each) if isinstance(each, dict) else each for each in value], ensure_ascii=False)
    if isinstance(value, bytes):
        raise ValueError("bytes, which are no text")
    return str(value)


def _cells(
    values: Iterable[Any], where: str, path: pathlib.Path | None = None, number: int = 0
) -> tuple[Cells | None, str]:
    """What a row yields; with `path`, bytes in it are files."""
    found: Cells = []
    try:
        for value in values:
            content = value.get("bytes") if isinstance(value, dict) else value
            if path is not None and isinstance(content, bytes):
                record = RecordField({number: {"bytes": content}}, number, "bytes", str(path), len(content))
                found.append(Embedded(f"{path.name}/{number}", record))
            elif isinstance(value, dict) and "bytes" in value:  # only its path is written
                found.append(cell(value.get("path")))
            else:
                found.append(cell(value))
    except (ValueError, TypeError) as error:
        what = str(error) if isinstance(error, ValueError) else "a list, but not of texts"
        return None, f"{where}: a cell holds {what}; write a text or a list of texts"
    return found, where


def _delimited(text: str, path: pathlib.Path, known: Callable[[str], bool]) -> Table:
    records, separator = read_delimited(text, path, known=known)
    header = [name.strip() for name in records[0][0]] if records else []

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        for number, (fields, line) in enumerate(records[1:], start=1):
            where = f"{path}, row {number} (line {line})"
            if len(fields) == len(header):
                yield [fields[k].strip() for k in places], where
            else:
                yield None, f"{where}: {ragged(fields, header, separator)}"

    return Table(header, rows)


def _json(text: str, path: pathlib.Path, *, lines: bool) -> Table:
    found: list[tuple[Any, str]]
    try:
        content = None if lines else json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            parse_json(text, path)
        content, lines = None, True
    except (RecursionError, ValueError):
        content = parse_json(text, path)  # says why not
    if lines:
        found = [_line(line, f"{path}, row {number} (line {number})") for number, line in _numbered(text)]
    else:
        found = [(each, f"{path}, row {number}") for number, each in enumerate(_objects(content, path), start=1)]
    header = list(dict.fromkeys(str(key) for each, _ in found if isinstance(each, dict) for key in each))
    if found and not header:
        raise DataError(f"{path}: expected objects with the columns as keys, found {str(found[0][0])[:60]!r}")

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        names = [header[k] for k in places]
        for each, where in found:
            if isinstance(each, dict):
                yield _cells([each.get(name) for name in names], where)
            else:
                yield None, f"{where}: not a JSON object; write one object a row"

    return Table([name.strip() for name in header], rows)


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _line(line: str, where: str) -> tuple[Any, str]:
    try:
        return json.loads(line), where
    except (ValueError, RecursionError):
        return None, where


def _objects(content: Any, path: pathlib.Path) -> list[Any]:
    """The rows of a JSON value: a list of objects, columns by name, captions by file name, or one list in an object."""
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a list of objects, found {str(content)[:60]!r}")
    if {"images", "annotations"} <= set(content):
        raise DataError(f"{path}: a file of COCO; write coco:DIR, DIR the folder that holds annotations/")
    values = list(content.values())
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):  # pandas, orient="split"
        return [dict(zip(content["columns"], each, strict=False)) for each in content["data"]]
    if values and all(isinstance(each, dict) for each in values):  # pandas: column -> row -> cell
        keys = dict.fromkeys(key for each in values for key in each)
        return [{name: column.get(key) for name, column in content.items()} for key in keys]
    lists = [each for each in values if isinstance(each, list)]
    if len(lists) == 1 and (len(values) == 1 or not _texts(lists[0])) and all(isinstance(e, dict) for e in lists[0]):
        if any("sentences" in each for each in lists[0][:1]):
            raise DataError(f"{path}: a file of Karpathy's splits; write karpathy:DIR, DIR the folder that holds it")
        return lists[0]
    if values and all(isinstance(each, str) or _texts(each) for each in values):
        named = {str(key).lower() for key in content}
        if not named & {"image", "file_name", "filepath", "caption", "text", "title"}:
            return [{"image": name, "caption": texts} for name, texts in content.items()]
        if all(isinstance(each, str) for each in values):
            return [content]
    if values and len(lists) == len(values) and len({len(each) for each in lists}) == 1:  # column -> cells
        return [dict(zip(content, each, strict=True)) for each in zip(*lists, strict=True)]
    raise DataError(
        f"{path}: expected a list of objects, one a row, or an object of file names with their captions; found an "
        f"object with {', '.join(map(repr, list(content)[:5])) or 'nothing in it'}"
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _parquet(path: pathlib.Path) -> Table:
    parquet = require("pyarrow.parquet", extra="tables", purpose="read Parquet files")
    damaged = f"{path}: damaged or cut short (Parquet); copy or download it again"
    try:
        header = list(parquet.read_schema(path).names)
    except Exception as error:  # of many kinds, and none of them is for who has the file
        raise DataError(damaged) from error

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        names = [header[k] for k in places]
        try:
            with parquet.ParquetFile(path) as file:
                columns = [file.read(columns=[name]).column(0).to_pylist() for name in names]
        except Exception as error:
            raise DataError(damaged) from error
        for number, values in enumerate(zip(*columns, strict=True), start=1):
            yield _cells(values, f"{path}, row {number}", path, number)

    return Table(["" if name.startswith("__index_level_") else name.strip() for name in header], rows)


def _workbook(path: pathlib.Path, sheet: str | None) -> Table:
    try:
        with zipfile.ZipFile(path) as archive:
            names, unpacked = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged or cut short (workbook); {_ANOTHER}") from error
    if "xl/workbook.xml" not in names:
        raise DataError(f"{path}: a zip archive and no Excel workbook; unpack it, or save it as CSV UTF-8")
    if unpacked > _MOST_UNPACKED:
        raise DataError(f"{path}: unpacks to {unpacked / 2**30:.0f} GiB; refused. Save the table as CSV UTF-8")
    library = require("openpyxl", extra="tables", purpose="read Excel workbooks")
    try:
        with warnings.catch_warnings():  # of styles and the like, which a table does not need
            warnings.simplefilter("ignore")
            book = library.load_workbook(path, read_only=True, data_only=True)
            sheets = {each.title: [list(row) for row in each.iter_rows(values_only=True)] for each in book.worksheets}
            book.close()
    except Exception as error:
        raise DataError(f"{path}: not an Excel workbook that can be read; {_ANOTHER}") from error
    filled = [name for name, cells in sheets.items() if any(any(each is not None for each in row) for row in cells)]
    if sheet and sheet not in sheets:
        raise DataError(f"{path}: no sheet {sheet!r}; it has {', '.join(map(repr, sheets))}")
    if not sheet and len(filled) > 1:
        advice = "leave one" if sheet is None else f"say which, as in sheet={filled[0]}"
        raise DataError(f"{path}: {len(filled)} sheets hold cells, {', '.join(map(repr, filled))}; {advice}")
    chosen = sheet or (filled[0] if filled else "")
    listed = [
        (row, number)
        for number, row in enumerate(sheets.get(chosen, []), start=1)
        if any(value is not None and str(value).strip() for value in row)
    ]
    header = [cell(value) for value in listed[0][0]] if listed else []

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        for number, (row, line) in enumerate(listed[1:], start=1):
            yield [cell(row[k]) if k < len(row) else "" for k in places], f"{path}, row {number} (sheet row {line})"

    return Table(header, rows)
