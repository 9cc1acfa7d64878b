"""Reads manifests: tables whose columns are found by name; every message names file and row."""

from __future__ import annotations

import csv
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.caption_cells import split_captions
from alignment_jax.data.column_roles import ALIASES, choose_roles, find_roles, is_known, near_miss
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.delimited import Record, split_records
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.table_cells import CellFile
from alignment_jax.data.table_files import open_table
from alignment_jax.data.text_files import read_json, read_text, read_text_lines

__all__ = [
    "Folder",
    "ManifestRow",
    "read_header",
    "read_json",
    "read_manifest",
    "read_positional_rows",
    "read_table",
    "read_text",
    "read_text_lines",
]


class ManifestRow(NamedTuple):
    """One record: `values` by role; `where` names file, record and line for messages.

    Attributes:
      padded: roles whose cell had spaces around its value; `values` is stripped.
      more: role -> cells of its further columns (caption_2, caption_3, ...).
      files: role -> the file that its cell holds; `values` then has a unique name for it.
    """

    values: dict[str, str]
    where: str
    padded: tuple[str, ...] = ()
    more: Mapping[str, Sequence[str]] = types.MappingProxyType({})
    files: Mapping[str, RecordField] = types.MappingProxyType({})


class ManifestRows(NamedTuple):
    """The rows of a manifest, the names of unused columns, and notes for the user."""

    rows: list[ManifestRow]
    others: list[str]
    notes: list[str]


def read_table(
    path: pathlib.Path, *, required: Sequence[str], optional: Sequence[str] = (), bad: BadSamples
) -> tuple[list[ManifestRow], list[str]]:
    """Reads all rows of a table with a header, in any format of `open_table`.

    Args:
      path: the file.
      required: required columns, by their names or those in `column_roles.ALIASES`.
      optional: optional columns.
      bad: collects rows whose number of fields differs from the header; they are skipped.

    Returns:
      `(rows, others)`: rows of the required and the existing optional columns, and the names of unused columns.

    Raises:
      DataError: the file is empty, has only a header, lacks a column, or is not a table.
    """
    found = read_manifest(path, required=required, optional=optional, bad=bad, named=None)
    return found.rows, found.others


def read_manifest(
    path: pathlib.Path,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    bad: BadSamples,
    named: Mapping[str, str] | None,
    choices: Sequence[Sequence[str]] = (),
    encoding: str | None = None,
    sheet: str | None = None,
) -> ManifestRows:
    """`read_table` for a source whose SPEC has options.

    Args:
      path, required, optional, bad: see `read_table`.
      named: role -> column, from the options of the SPEC; None if the source has no such options.
      choices: sets of roles, of which one is required, too (see `choose_roles`).
      encoding, sheet: see `open_table`.
    """
    known = tuple(dict.fromkeys((*required, *(role for choice in choices for role in choice), *optional)))
    table = open_table(path, known=lambda name: is_known(name, known, named or {}), encoding=encoding, sheet=sheet)
    if choices:
        required = (*required, *choose_roles(table.header, choices, named))
    if not table.header:
        expected = ", ".join(required) + "".join(f"[, {name}]" for name in optional)
        raise DataError(f"{path}: empty file; expected a header with the columns {expected}")
    places, notes = find_roles(table.header, path, required=required, optional=optional, named=named)
    used = [k for columns in places.values() for k in columns]
    stands_for = [role for role, columns in places.items() for _ in columns]
    others = [name for k, name in enumerate(table.header) if k not in used and name]
    known = (*required, *optional)
    if problem := near_miss(others, [role for role in known if role not in places], can_name=named is not None):
        raise DataError(f"{path}: {problem} expected {', '.join(known)}")
    rows = []
    empty = True
    for cells, where in table.rows(used):
        empty = False
        if cells is None:
            bad.add(where)
            continue
        texts = [each.name if isinstance(each, CellFile) else each.strip() for each in cells]
        pairs = zip(stands_for, cells, texts, strict=True)
        padded = tuple(role for role, written, text in pairs if isinstance(written, str) and written != text)
        values, more, files, begin = {}, {}, {}, 0
        for role, columns in places.items():
            values[role], *rest = texts[begin : begin + len(columns)]
            if rest:
                more[role] = rest
            if isinstance(first := cells[begin], CellFile):
                files[role] = first.item
            begin += len(columns)
        if several := _only_files(values):
            bad.add(f"{where}: {several}")
            continue
        rows.append(ManifestRow(values, where, padded, more, files))
    if empty:
        raise DataError(f"{path}: only a header, no rows")
    return ManifestRows(rows, others, notes)


def _only_files(values: dict[str, str]) -> str:
    """Unpacks lists of one file in `values`; returns a message if a list holds several."""
    for role in ("image", "audio"):
        found = split_captions(values.get(role, ""))
        if len(found) != 1:
            return f"a list of {len(found)} files in column {role}; write one row per file, grouped by a column item"
        if role in values:
            values[role] = found[0]
    return ""


def read_positional_rows(
    path: pathlib.Path, names: Sequence[str], *, bad: BadSamples, tabs: bool = False, header: bool = False
) -> list[ManifestRow]:
    """Reads a file whose columns have fixed positions: CSV, or tab-separated without quoting.

    Args:
      path: the file.
      names: names of the columns, in order.
      bad: collects rows with another number of fields; they are skipped.
      tabs: tab-separated, quotes are ordinary characters.
      header: skip the first record.

    Raises:
      DataError: the file has no rows or another format.
    """
    rows, records = [], list(_records(path, tabs=tabs))[1 if header else 0 :]
    if not records:
        raise DataError(f"{path}: no rows")
    for number, (fields, line) in enumerate(records, start=1):
        where = f"{path}, row {number} (line {line})"
        if len(fields) != len(names):
            bad.add(f"{where}: {len(fields)} fields instead of {len(names)} ({', '.join(names)})")
        else:
            rows.append(ManifestRow({name: field.strip() for name, field in zip(names, fields, strict=True)}, where))
    return rows


def read_header(path: pathlib.Path, *, tabs: bool = False) -> list[str]:
    """The header of a table in any format of `open_table`, or, with `tabs`, the fields of the first record.

    Empty for an empty file.
    """
    if not tabs:
        return open_table(path, known=lambda name: is_known(name, ALIASES, {})).header
    return [name.strip() for name in next(_records(path, tabs=tabs), ([], 0))[0]]


def _records(path: pathlib.Path, *, tabs: bool) -> Iterator[Record]:
    settings: dict = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
    return split_records(read_text(path), path, **settings)


__getattr__ = renamed_names(
    __name__,
    {
        "Row": "ManifestRow",
        "first_record": "read_header",
        "read_lines": "read_text_lines",
        "read_rows": "read_positional_rows",
    },
)
