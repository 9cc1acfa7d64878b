"""Reads Parquet files and Excel workbooks as tables."""

from __future__ import annotations

import pathlib
import warnings
import zipfile
from collections.abc import Iterator, Sequence

from alignment_jax.core.errors import DataError
from alignment_jax.core.optional import require
from alignment_jax.data.table_cells import Cells, TableReader, cell_text, row_of
from alignment_jax.data.text_files import most_unpacked

_ANOTHER = "save it again, or as CSV UTF-8"


def read_parquet_table(path: pathlib.Path) -> TableReader:
    """Opens the table of a Parquet file; only the requested columns are read."""
    parquet = require("pyarrow.parquet", extra="tables", purpose="read Parquet files")
    damaged = f"{path}: damaged or truncated (Parquet); copy or download it again"
    try:
        header = list(parquet.read_schema(path).names)
    except Exception as error:  # errors of many kinds
        raise DataError(damaged) from error

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        names = [header[k] for k in places]
        try:
            with parquet.ParquetFile(path) as file:
                columns = [file.read(columns=[name]).column(0).to_pylist() for name in names]
        except Exception as error:
            raise DataError(damaged) from error
        if len(set(map(len, columns))) > 1:
            raise DataError(damaged)
        for number, values in enumerate(zip(*columns, strict=True), start=1):
            yield row_of(values, f"{path}, row {number}", path, number)

    return TableReader(["" if name.startswith("__index_level_") else name.strip() for name in header], rows)


def read_workbook(path: pathlib.Path, sheet: str | None) -> TableReader:
    """Opens a sheet, see `open_table`; the first non-empty row is the header."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, unpacked = archive.namelist(), sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged or truncated (workbook); {_ANOTHER}") from error
    if "xl/workbook.xml" not in names:
        raise DataError(f"{path}: a zip archive, not an Excel workbook; unpack it, or save it as CSV UTF-8")
    if unpacked > most_unpacked(path.stat().st_size):
        raise DataError(f"{path}: unpacks to {unpacked / 2**30:.1f} GiB, too large; save the table as CSV UTF-8")
    library = require("openpyxl", extra="tables", purpose="read Excel workbooks")
    try:
        with warnings.catch_warnings():  # about styles
            warnings.simplefilter("ignore")
            book = library.load_workbook(path, read_only=True, data_only=True)
            sheets = {each.title: [list(row) for row in each.iter_rows(values_only=True)] for each in book.worksheets}
            book.close()
    except Exception as error:
        raise DataError(f"{path}: not a readable Excel workbook; {_ANOTHER}") from error
    filled = [name for name, cells in sheets.items() if any(any(each is not None for each in row) for row in cells)]
    if sheet and sheet not in sheets:
        raise DataError(f"{path}: no sheet {sheet!r}; it has {', '.join(map(repr, sheets))}")
    if not sheet and len(filled) > 1:
        advice = "keep one" if sheet is None else f"choose one, as in sheet={filled[0]}"
        raise DataError(f"{path}: {len(filled)} sheets have content, {', '.join(map(repr, filled))}; {advice}")
    chosen = sheet or (filled[0] if filled else "")
    listed = [
        (row, number)
        for number, row in enumerate(sheets.get(chosen, []), start=1)
        if any(value is not None and str(value).strip() for value in row)
    ]
    header = [cell_text(value) for value in listed[0][0]] if listed else []

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        for number, (row, line) in enumerate(listed[1:], start=1):
            yield (
                [cell_text(row[k]) if k < len(row) else "" for k in places],
                f"{path}, row {number} (sheet row {line})",
            )

    return TableReader(header, rows)
