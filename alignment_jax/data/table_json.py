"""Reads JSON and JSON lines as tables, in the layouts of pandas, datasets and others."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alignment_jax.core.errors import DataError
from alignment_jax.data.column_roles import is_known
from alignment_jax.data.split import canonical_split
from alignment_jax.data.table_cells import Cells, TableReader, row_of
from alignment_jax.data.text_files import parse_json


def read_json_table(text: str, path: pathlib.Path, *, lines: bool, known: Callable[[str], bool]) -> TableReader:
    """Opens the table of a JSON text; with `lines`, or if it has several values, each line is an object.

    `known`: whether a column name is one of those wanted.
    """
    found: list[tuple[Any, str]]
    lines = lines and not text.lstrip().startswith("[")  # a list is not JSON lines, whatever the extension
    try:
        content = None if lines else json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            parse_json(text, path)
        content, lines = None, True
    except (RecursionError, ValueError):
        content = parse_json(text, path)  # raises the message
    if lines:
        found = [_line(line, f"{path}, row {number} (line {number})") for number, line in _numbered(text)]
    else:
        objects = _objects(content, path, known, pairs=lambda: json.loads(text, object_pairs_hook=list))
        found = [(each, f"{path}, row {number}") for number, each in enumerate(objects, start=1)]
    header = list(dict.fromkeys(str(key) for each, _ in found if isinstance(each, dict) for key in each))
    if found and not header:
        raise DataError(
            f'{path}: expected objects with the columns as keys, as {{"image": "1.jpg", "caption": "a dog"}}; found '
            f"{str(found[0][0])[:60]!r}"
        )

    def rows(places: Sequence[int]) -> Iterator[tuple[Cells | None, str]]:
        names = [header[k] for k in places]
        for each, where in found:
            if isinstance(each, dict):
                yield row_of([each.get(name) for name in names], where)
            else:
                yield None, f"{where}: not a JSON object; write one object per row"

    return TableReader([name.strip() for name in header], rows)


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _line(line: str, where: str) -> tuple[Any, str]:
    try:
        return json.loads(line), where
    except (ValueError, RecursionError):
        return None, where


def _objects(content: Any, path: pathlib.Path, known: Callable[[str], bool], *, pairs: Callable[[], Any]) -> list[Any]:
    """The rows of a JSON value.

    Layouts: a list of objects or texts; columns by name; rows or captions by file name; an object with one list, or
    with one list per split.

    `pairs` parses the value with objects as lists of (key, value), which shows duplicate keys.
    """
    if isinstance(content, list):
        return [{"text": each} for each in content] if _texts(content) else content
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a list of objects, found {str(content)[:60]!r}")
    if {"images", "annotations"} <= set(content):
        raise DataError(f"{path}: a COCO file; write coco:DIR with the folder of annotations/")
    values = list(content.values())
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):  # pandas, orient="split"
        return [dict(zip(content["columns"], each, strict=False)) for each in content["data"]]
    if values and all(isinstance(each, dict) for each in values):
        inner = {str(key) for each in values for key in each}
        if not any(map(known, map(str, content))) and any(map(known, inner)):  # row or file name -> column -> cell
            if len(pairs()) > len(content):
                raise DataError(f"{path}: a key occurs twice; write a list of objects, one per row")
            by_file = not any(is_known(name, ("image", "audio"), {}) for name in inner)
            return [{**({"image": key} if by_file else {}), **each} for key, each in content.items()]
        # pandas: column -> row -> cell
        keys = dict.fromkeys(key for each in values for key in each)
        return [{name: column.get(key) for name, column in content.items()} for key in keys]
    lists = [each for each in values if isinstance(each, list)]
    if len(lists) == 1 and (len(values) == 1 or not _texts(lists[0])) and all(isinstance(e, dict) for e in lists[0]):
        if any("sentences" in each for each in lists[0][:1]):
            raise DataError(f"{path}: a file of Karpathy's splits; write karpathy:DIR with its folder")
        return lists[0]
    if values and len(lists) == len(values) and all(map(canonical_split, map(str, content))):  # split -> rows
        if any(not isinstance(each, dict) for rows in lists for each in rows):
            raise DataError(f"{path}: expected a list of objects for each split, one per row")
        return [{"split": split, **each} for split, rows in content.items() for each in rows]
    if values and all(isinstance(each, str) or _texts(each) for each in values):
        named = {str(key).lower() for key in content}
        if not named & {"image", "file_name", "filepath", "caption", "text", "title"}:
            return [{"image": name, "caption": texts} for name, texts in pairs()]
        if all(isinstance(each, str) for each in values):
            return [content]
    if values and len(lists) == len(values) and len({len(each) for each in lists}) == 1:  # column -> cells
        return [dict(zip(content, each, strict=True)) for each in zip(*lists, strict=True)]
    raise DataError(
        f"{path}: expected a list of objects, one per row, or an object of file names with their captions; found an "
        f"object with {', '.join(map(repr, list(content)[:5])) or 'nothing in it'}"
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
