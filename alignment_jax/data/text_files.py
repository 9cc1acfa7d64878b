"""Reads text files (UTF-8, UTF-16, a named encoding, gzip); messages name the format of other files."""

from __future__ import annotations

import difflib
import gzip
import io
import json
import os
import pathlib
import zlib
from typing import Any

from alignment_jax.core.errors import ConfigError, DataError

_SAVE = "save it as UTF-8"
_UNPACK = "unpack it first"
# First bytes -> format, and advice for a text file.
_KINDS = {
    b"PK\x03\x04": ("a zip archive or a workbook", "save it as CSV UTF-8"),
    b"PAR1": ("a Parquet file", "save it as CSV"),
    b"ARROW1": ("an Arrow file", "save it as Parquet or CSV"),
    b"\xd0\xcf\x11\xe0": ("a workbook of an old Excel (.xls)", "save it as .xlsx or as CSV UTF-8"),
    b"BZh": ("compressed by bzip2", _UNPACK),
    b"\xfd7zXZ": ("compressed by xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", _UNPACK),
    b"SQLite format 3": ("a SQLite database", "export the table as CSV"),
    b"\x89PNG": ("an image", "name the table that lists it"),
    b"\xff\xd8\xff": ("an image", "name the table that lists it"),
    b"\x93NUMPY": ("an array of NumPy", "write embeddings:image=A.npy,text=B.npy, or name a table"),
}
_TAR = b"ustar"  # from byte 257 on
_PICKLES = (".pkl", ".pickle")
_FREE_SIZE, _MOST_PACKED = 1 << 28, 100  # text compresses about tenfold; limits for decompression bombs
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe\0\0": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def first_bytes(path: pathlib.Path, count: int = 16) -> bytes:
    """The first bytes of a file, decompressed if it is gzip; raises DataError if it cannot be read."""
    return _read(path, count)[:count]


def read_text(path: pathlib.Path, *, encoding: str = "", save: str = _SAVE) -> str:
    """Reads a text file, decompressed if it is gzip.

    Args:
      path: the file.
      encoding: its encoding; "" for UTF-8 with or without a byte order mark, or UTF-16.
      save: advice in the message about a wrong encoding.

    Raises:
      ConfigError: no such encoding.
      DataError: the file is missing, unreadable, not text, or not in this encoding.
    """
    content = _read(path)
    found = encoding or next((name for mark, name in _MARKS.items() if content.startswith(mark)), "")
    if not encoding and found in ("utf-16", "utf-32") and b"\0" not in content:
        found = ""  # not a byte order mark: in UTF-16 every line end has a zero byte
    if not found and len(content) > 3 and b"\0" in (content[:1], content[1:2]):
        found = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content.decode(found or "utf-8").removeprefix("\ufeff")
    except LookupError as error:
        raise ConfigError(f"encoding={encoding} is not known; for example cp1252, latin-1, cp1251, gb18030") from error
    except UnicodeError as error:
        _refuse_other_kinds(path, content)
        place = getattr(error, "start", 0)
        name = {"": "UTF-8", "utf-8": "UTF-8"}.get(found, found)
        line = content[:place].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not {name} text (byte {place}); {save if not encoding else 'name another encoding'}"
        ) from error


def most_unpacked(size: int) -> int:
    """Largest decompressed size of a text of `size` bytes."""
    return max(_FREE_SIZE, _MOST_PACKED * size)


def _read(path: pathlib.Path, count: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(count)
            if not content.startswith(b"\x1f\x8b"):
                return content
            file.seek(0)
            most = most_unpacked(os.fstat(file.fileno()).st_size)
            with gzip.open(file) as packed:
                content = packed.read(count if count >= 0 else most + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{_near(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: a folder; {_in_folder(path)}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged or truncated (gzip); copy or download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > most:
        raise DataError(f"{path}: unpacks to more than {most / 2**30:.1f} GiB, too large; if that is right, unpack it")
    return content


def _near(path: pathlib.Path) -> str:
    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        return ""
    if any(sign in path.name for sign in "*?[{"):
        return f"; a table is one file; folder:{path.parent} reads all tables of a folder"
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f", did you mean {path.parent / near[0]}?" if near else ""


def _in_folder(folder: pathlib.Path) -> str:
    endings = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx")
    found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in endings)
    if len(found) == 1:
        return f"name the file in it, {folder / found[0]}"
    return f"write folder:{folder} for all of it" + (f", or {folder / found[0]} for one table" if found else "")


def _refuse_other_kinds(path: pathlib.Path, content: bytes) -> None:
    if path.suffix.lower() in _PICKLES:
        raise DataError(
            f"{path}: pickles are not loaded; convert it with "
            f"python -c \"import pandas; pandas.read_pickle('{path}')"
            f".to_csv('{path.with_suffix('.csv')}', index=False)\""
        )
    for start, (what, advice) in _KINDS.items():
        if content.startswith(start):
            raise DataError(f"{path}: not a text file, it is {what}; {advice}")
    if content[257:262] == _TAR:
        raise DataError(f"{path}: not a text file, it is a tar archive; write webdataset:{path}")
    if b"\0" in content and not _is_wide(content):
        raise DataError(f"{path}: not a text file, it contains zero bytes; name a table, such as a CSV file")


def _is_wide(content: bytes) -> bool:
    """Whether about every other byte is zero, as in UTF-16 text of a Latin alphabet."""
    return content[:200].count(b"\0") * 3 > len(content[:200])


def read_text_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file with any line ends; at least one."""
    return [line.rstrip() for line in io.StringIO(read_text(path), newline=None).read().split("\n")]


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      DataError: it is missing or not JSON; the message names the line.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: pathlib.Path) -> Any:
    """Parses a JSON text; `path` is its file, for messages."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise DataError(f"{place}: not valid JSON from here on; correct it") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply to be a data set") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: a number in it is too long") from error
