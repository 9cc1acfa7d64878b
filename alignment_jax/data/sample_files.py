"""Finds the image and the captions among the files of one sample, which share a name."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from alignment_jax.core.errors import DataError
from alignment_jax.data.tars import TEXTS, FileSlice

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "img", "image")
RECORDINGS = ("wav", "flac", "mp3", "ogg", "m4a", "opus")
_LONGEST = 1 << 20  # bytes of a caption file or a JSON file
_FIELDS = ("caption", "text", "sentence", "title", "description", "comment")  # of JSON, also plural or numbered
File: TypeAlias = FileSlice | pathlib.Path
_F = TypeVar("_F", bound=File)


def sample_image(files: Mapping[str, _F], *, where: str, named: str = "") -> _F:
    """The image of a sample.

    Args:
      files: extension in lower case -> file; an extension may have several parts ("input.jpg").
      where: for messages.
      named: the extension of the SPEC, or "".

    Raises:
      DataError: there is none, it is empty, or it is ambiguous.
    """
    found = [named] if named in files else [] if named else _candidates(files, IMAGES)
    if not found or not _size(files[found[0]]):
        asked = f" {named!r}" if named else ""
        empty = ", which is empty" if found else ""
        raise DataError(f"{where} has no image{asked} ({', '.join(sorted(files))}){empty}")
    if len(found) > 1:
        raise DataError(f"{where} has several images ({', '.join(found)}); write ,image={found[0]} to choose one")
    return files[found[0]]


def sample_captions(files: Mapping[str, File], *, where: str, named: str = "") -> list[str]:
    """The captions of a sample: the lines of its text file, else the captions in its JSON file.

    A text of several lines is one caption if the JSON file has it as one, as written by img2dataset.

    Args:
      files, where: see `sample_image`.
      named: an extension, or a field of the JSON file ("meta.text" for a nested field).

    Raises:
      DataError: there is none, it is ambiguous, or a file is too long, not JSON, or neither UTF-8 nor UTF-16 with a
        byte order mark.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "1.json")
    ...     _ = path.write_text('{"captions": ["a dog", "a brown dog"], "url": "u"}')
    ...     sample_captions({"json": path}, where="1")
    ['a dog', 'a brown dog']
    """
    named = named.lower() if named.lower() in files else named
    texts = [named] if named in files else [] if named else _candidates(files, TEXTS)
    objects = [key for key in _candidates(files, ("json",)) if key not in texts]
    chosen = texts or objects
    if not chosen:
        what = f"no {named!r} and no .json with such a field" if named else "no .txt and no .json with a caption"
        raise DataError(f"{where} has {what} ({', '.join(sorted(files))})")
    if len(chosen) > 1:
        raise DataError(f"{where} has several texts ({', '.join(chosen)}); write ,caption={chosen[0]} to choose one")
    file = files[chosen[0]]
    if chosen[0].endswith("json"):
        return _in_json(_json(file, where), _name(file), where, "" if texts else named)
    lines = [" ".join(line.split()) for line in re.split(r"\r\n|\r|\n", _text(file, where))]
    lines = [line for line in lines if line] or [""]
    if len(lines) > 1 and len(objects) == 1 and not named and _same_in_json(" ".join(lines), files[objects[0]], where):
        return [" ".join(lines)]
    return lines


def kinds_of(samples: Iterable[Mapping[str, File]]) -> str:
    """Counts of the extensions, for a message: "30 flac, 30 json"."""
    count: dict[str, int] = {}
    for files in samples:
        for ending in files:
            count[ending] = count.get(ending, 0) + 1
    most = sorted(count.items(), key=lambda each: (-each[1], each[0]))
    more = f" and {len(most) - 5} more" if len(most) > 5 else ""
    return ", ".join(f"{number} {ending}" for ending, number in most[:5]) + more


def _candidates(files: Mapping[str, File], endings: tuple[str, ...]) -> list[str]:
    """Extensions whose last part is in `endings`; simple ones take precedence."""
    found = [ending for ending in files if ending.rpartition(".")[2] in endings]
    return [ending for ending in found if "." not in ending] or found


def _size(file: File) -> int:
    return file.size if isinstance(file, FileSlice) else file.stat().st_size


def _name(file: File) -> str:
    return file.name


def _text(file: File, where: str) -> str:
    try:
        if _size(file) > _LONGEST:
            raise DataError(f"{where}: {_name(file)} is too long for a caption ({_size(file)} bytes)")
        content = file.read_bytes()
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in content
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        name = _name(file)
        raise DataError(
            f"{where}: no caption can be read from {name}: not UTF-8; convert it, for example from Windows: "
            f"iconv -f cp1252 -t utf-8 {name} > NEW"
        ) from error
    except OSError as error:
        raise DataError(f"{where}: no caption can be read from {_name(file)} ({error.strerror or error})") from error


def _json(file: File, where: str) -> Any:
    text = _text(file, where)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no caption can be read from {_name(file)}: not JSON") from error


def _in_json(found: Any, name: str, where: str, field: str) -> list[str]:
    """The captions in a JSON value; `field`: the field named in the SPEC, or ""."""
    for part in field.split(".") if field else ():
        if not isinstance(found, dict) or part not in found:
            raise DataError(f"{where}: no field {field!r} in {name}; it has {_keys(found)}")
        found = found[part]
    values = [found] if field or not isinstance(found, dict) else _caption_fields(found, name, where)
    texts: dict[str, None] = {}
    for value in values:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                inner = [v for key in (*_FIELDS, "raw") if isinstance(v := each.get(key), str)]
                each = inner[0] if len(inner) == 1 else None
            if not isinstance(each, str):
                raise DataError(f"{where}: the caption in {name} is not a text")
            texts[" ".join(each.split())] = None
    return [text for text in texts if text] or [""]


def _caption_fields(found: dict, name: str, where: str) -> list[Any]:
    families: dict[str, list[Any]] = {}
    for key, value in found.items():
        matched = re.fullmatch(r"([a-z]+?)s?[_ -]?\d*", str(key).lower())
        if matched and matched[1] in _FIELDS and value is not None:
            families.setdefault(matched[1], []).append(value)
    if "caption" in families:
        return families["caption"]
    if len(families) == 1:
        return next(iter(families.values()))
    if families:
        names = " or ".join(f",caption={each}" for each in families)
        raise DataError(f"{where}: several fields of {name} could be the caption; write {names}")
    raise DataError(
        f"{where}: no caption can be read from {name}: it has {_keys(found)}; write ,caption=FIELD to name one"
    )


def _keys(found: Any) -> str:
    return ", ".join(map(str, list(found)[:8])) or "nothing" if isinstance(found, dict) else "no fields"


def _same_in_json(text: str, file: File, where: str) -> bool:
    try:
        return text in _in_json(_json(file, where), _name(file), where, "")
    except DataError:
        return False
