"""Opens tables of all formats: delimited text, JSON, JSON lines, Parquet, Excel workbooks."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence

from alignment_jax.core.errors import ConfigError
from alignment_jax.data.delimited import ragged, read_delimited
from alignment_jax.data.table_binary import read_parquet_table, read_workbook
from alignment_jax.data.table_cells import Cells, TableReader
from alignment_jax.data.table_json import read_json_table
from alignment_jax.data.text_files import first_bytes, read_text

_LINES = (".jsonl", ".ndjson")
_SAVE = "save it as UTF-8"
_NAME = "add encoding=cp1252 for Windows files, else encoding=NAME, or save it as UTF-8"


def open_table(
    path: pathlib.Path, *, known: Callable[[str], bool], encoding: str | None = None, sheet: str | None = None
) -> TableReader:
    """Opens a table; the format is detected by content, not by the file name.

    Args:
      path: the file.
      known: whether a column name is one of those wanted.
      encoding: of a text file, see `read_text`; None if the SPEC has no such option, which messages then do not
        mention.
      sheet: of a workbook with several; "" for the only one; None as for `encoding`.

    Raises:
      ConfigError: `encoding` or `sheet` does not apply to the file.
      DataError: the file cannot be read, is empty, or is not a table.
    """
    start = first_bytes(path, 8)
    if start.startswith((b"PAR1", b"PK\x03\x04")):
        if encoding:
            raise ConfigError(f"{path}: encoding={encoding} is only for text files; remove it")
        if not start.startswith(b"PAR1"):
            return read_workbook(path, sheet)
    if sheet:
        raise ConfigError(f"{path}: sheet={sheet} is only for workbooks; remove it")
    if start.startswith(b"PAR1"):
        return read_parquet_table(path)
    text = read_text(path, encoding=encoding or "", save=_SAVE if encoding is None else _NAME)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if any(suffix in _LINES for suffix in suffixes) or text.lstrip()[:1] in ("{", "["):
        return read_json_table(text, path, lines=any(suffix in _LINES for suffix in suffixes), known=known)
    return _delimited(text, path, known)


def _delimited(text: str, path: pathlib.Path, known: Callable[[str], bool]) -> TableReader:
    records, separator = read_delimited(text, path, known=known)
    header = [name.strip() for name in records[0][0]] if records else []

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        for number, (fields, line) in enumerate(records[1:], start=1):
            where = f"{path}, row {number} (line {line})"
            if len(fields) == len(header):
                yield [fields[k] for k in places], where
            else:
                yield None, f"{where}: {ragged(fields, header, separator)}"

    return TableReader(header, rows)
