"""JSON Lines files: read, write, and append after a crash.

A line ends at "\\n" alone. `str.splitlines` also splits at U+2028, U+0085 and others, which a JSON string may contain.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from alignment_jax.core.errors import RunError
from alignment_jax.core.storage import json_ready, write_bytes_atomic


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One row as a line of valid JSON in UTF-8; see `json_ready`. Lone surrogates become "?".

    Raises:
      ValueError: a value cannot be written as JSON.

    >>> encode_row({"seed": 3, "gap": float("nan")})
    b'{"seed": 3, "gap": null}\\n'
    """
    return (json.dumps(json_ready(row), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a file, in order; none for a missing file.

    A last line without a line end is from an interrupted write. It counts only if it is a complete object.

    Raises:
      RunError: another line is not a JSON object; the message names the file and the line.

    >>> read_rows("no/such/runs.jsonl")
    []
    """
    return [row for _, row in read_lines(path)]


def read_lines(path: str | os.PathLike[str]) -> list[tuple[bytes, dict[str, Any]]]:
    """`read_rows` with the bytes of every line, "\\n" included."""
    try:
        content = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    found = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise RunError(
                f"{path}, line {number}: not a JSON object ({line[:40]!r}); repair or delete that line"
            ) from error
        found.append((line + b"\n", row))
    return found


def append_row(path: str | os.PathLike[str], row: Mapping[str, Any]) -> None:
    """Appends one row and flushes it to disk; an incomplete last line is removed first.

    Raises:
      ValueError: a value cannot be written as JSON.
      RunError: the file cannot be written, or another line of it is broken.

    >>> import tempfile
    >>> runs = pathlib.Path(tempfile.mkdtemp()) / "runs.jsonl"
    >>> append_row(runs, {"note": "two\\u2028lines"})
    >>> read_rows(runs)
    [{'note': 'two\\u2028lines'}]
    """
    line = encode_row(row)
    try:
        end_last_line(path)
        with open(path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; check the folder and the free space") from error


def end_last_line(path: str | os.PathLike[str]) -> None:
    """Removes an incomplete last line, or ends a complete one, before the next row is appended."""
    try:
        with open(path, "rb") as file:
            if _ended(file):
                return
    except FileNotFoundError:
        return
    write_lines(path, (line for line, _ in read_lines(path)))


def write_lines(path: str | os.PathLike[str], lines: Iterable[bytes]) -> None:
    """Replaces a file by lines of `read_lines`, atomically."""
    write_bytes_atomic(path, b"".join(lines))


def _ended(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
