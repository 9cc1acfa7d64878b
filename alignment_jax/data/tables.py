"""CSV manifests and the paths in them: strict, and every message names file and row."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from alignment_jax.core.errors import DataError
from alignment_jax.data.collect import BadSamples


class Row(NamedTuple):
    """One record: `values` by column name; `where` names file, record and line for messages.

    padded: columns whose cell had space around its value, which `values` leaves out.
    """

    values: dict[str, str]
    where: str
    padded: tuple[str, ...] = ()


def read_text(path: pathlib.Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
      DataError: no such file, not readable, or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a UTF-8 text file, whatever their ends; at least one."""
    return [line.rstrip() for line in io.StringIO(read_text(path), newline=None).read().split("\n")]


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      DataError: it is missing or not JSON; the message says in which line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply to be a data set") from error
    except ValueError as error:  # a number of thousands of digits
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not JSON that can be read ({' '.join(str(error).split())})") from error


def read_table(
    path: pathlib.Path, *, required: Sequence[str], optional: Sequence[str] = (), bad: BadSamples
) -> tuple[list[Row], list[str]]:
    """All rows of a CSV file with a header; commas and line breaks may stand in quoted fields.

    Args:
      path: the file.
      required: columns that must be there.
      optional: columns that may be there.
      bad: told of rows that have more or fewer fields than the header; they are left out.

    Returns:
      `(rows, others)`: each row holds the required columns and the optional ones that are there; `others` are the names
      of further columns, which are not read.

    Raises:
      DataError: the file is empty, has only a header, lacks a column, or is not CSV.
    """
    known = (*required, *optional)
    expected = ", ".join(required) + "".join(f"[, {name}]" for name in optional)
    records = list(_records(path))
    if not records:
        raise DataError(f"{path}: empty file; expected a header with the columns {expected}")
    header = [name.strip() for name in records[0][0]]
    found = " ".join(", ".join(header).split())[:200]  # whatever bytes stand there, it is one line
    if any(name not in header for name in required):
        raise DataError(f"{path}: expected the columns {expected}; found {found}")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: a column occurs twice; found {found}")
    others = [name for name in header if name not in known]
    for name in others:
        near = difflib.get_close_matches(name.lower(), [k for k in known if k not in header], n=1, cutoff=0.8)
        if near:
            raise DataError(f"{path}: unknown column {name!r}, did you mean {near[0]!r}? expected {expected}")
    if len(records) == 1:
        raise DataError(f"{path}: only a header, no rows")
    places = [(name, header.index(name)) for name in known if name in header]
    rows = []
    for number, (fields, line) in enumerate(records[1:], start=1):
        where = f"{path}, row {number} (line {line})"
        if len(fields) != len(header):
            bad.add(f"{where}: {len(fields)} fields, but the header has {len(header)}; quote fields that hold commas")
            continue
        padded = tuple(name for name, i in places if fields[i] != fields[i].strip())
        rows.append(Row({name: fields[i].strip() for name, i in places}, where, padded))
    return rows, others


def read_rows(
    path: pathlib.Path, names: Sequence[str], *, bad: BadSamples, tabs: bool = False, header: bool = False
) -> list[Row]:
    """All rows of a file whose columns are known by their place: CSV, or tab-separated without any quoting.

    Args:
      path: the file.
      names: what to call the columns, in their order.
      bad: told of rows with another number of fields; they are left out.
      tabs: fields end with tabs, and quotes are ordinary characters.
      header: the first record is one and is left out.

    Raises:
      DataError: the file has no rows or is not such a file.
    """
    rows, records = [], list(_records(path, tabs=tabs))[1 if header else 0 :]
    if not records:
        raise DataError(f"{path}: no rows")
    for number, (fields, line) in enumerate(records, start=1):
        where = f"{path}, row {number} (line {line})"
        if len(fields) != len(names):
            bad.add(f"{where}: {len(fields)} fields instead of {len(names)} ({', '.join(names)})")
        else:
            rows.append(Row({name: field.strip() for name, field in zip(names, fields, strict=True)}, where))
    return rows


def first_record(path: pathlib.Path, *, tabs: bool = False) -> list[str]:
    """The fields of the first record, empty for an empty file."""
    return [name.strip() for name in next(_records(path, tabs=tabs), ([], 0))[0]]


def _records(path: pathlib.Path, *, tabs: bool = False) -> Iterator[tuple[list[str], int]]:
    """Records that are not blank lines, each with the line it begins on."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a caption may be longer than the module's 128 KiB
    # Not str.splitlines, which also splits at characters that a caption may hold (U+2028, U+0085, ...).
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(text, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield fields, line
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: not valid CSV ({error})") from error
    finally:
        csv.field_size_limit(limit)


class Folder:
    """Finds the files that a manifest names, and refuses names that lead out of its folder.

    >>> Folder(pathlib.Path("data")).find("../secret.png", where="pairs.csv, row 1")
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.DataError: pairs.csv, row 1: '../secret.png' leads out of the folder data
    """

    def __init__(self, root: pathlib.Path):
        self._root = root
        self._real = pathlib.Path(os.path.realpath(root))
        self._real_parents: dict[pathlib.Path, pathlib.Path] = {}

    def find(self, name: str, *, where: str) -> pathlib.Path:
        """The path of an existing file inside the folder.

        Args:
          name: as it stands in the manifest, relative to the folder (or absolute, but inside it).
          where: file and row, for the message.

        Raises:
          DataError: the name is empty, leads out of the folder (by .., by an absolute path or by a link), or there is
            no such file.
        """
        path = self._inside(name, where)
        with self._unusable(name, where):
            size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise DataError(f"{where}: no such file: {path}")
        if size == 0:
            raise DataError(f"{where}: empty file: {path}")
        return path

    def find_folder(self, name: str, *, where: str) -> pathlib.Path:
        """The path of an existing folder inside the folder; refuses what `find` refuses."""
        path = self._inside(name, where)
        with self._unusable(name, where):
            there = path.is_dir()
        if not there:
            raise DataError(f"{where}: no such folder: {path}")
        return path

    def has(self, name: str) -> bool:
        """Whether there is a file or a folder of this name; what leads out of the folder is not there."""
        try:
            inside = "\0" not in name and self._resolved(self._root / name).is_relative_to(self._real)
            return inside and (self._root / name).exists()
        except (OSError, ValueError):
            return False

    def _inside(self, name: str, where: str) -> pathlib.Path:
        if not name or "\0" in name:
            raise DataError(f"{where}: no file name" if not name else f"{where}: a NUL byte in the file name")
        path = self._root / name
        with self._unusable(name, where):
            inside = self._resolved(path).is_relative_to(self._real)
        if not inside:
            direct = ".." in path.parts or pathlib.PurePath(name).is_absolute()
            link = "" if direct else " by a symbolic link: copy what it leads to"
            raise DataError(f"{where}: {name!r} leads out of the folder {self._root}{link}")
        return path

    @contextlib.contextmanager
    def _unusable(self, name: str, where: str) -> Iterator[None]:
        """Names that no file can have: too long for the system, or not to be written in its encoding."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            reason = error.strerror if isinstance(error, OSError) else "it is no text that can name a file"
            raise DataError(f"{where}: {name[:80]!r} cannot be read ({reason})") from error

    def _resolved(self, path: pathlib.Path) -> pathlib.Path:
        # Manifests name many files of few folders: resolve each folder once.
        if path.name in ("", "..") or path.is_symlink():
            return pathlib.Path(os.path.realpath(path))
        if path.parent not in self._real_parents:
            self._real_parents[path.parent] = pathlib.Path(os.path.realpath(path.parent))
        return self._real_parents[path.parent] / path.name
