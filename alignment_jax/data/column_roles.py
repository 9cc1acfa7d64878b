"""Finds the role (image, caption, ...) of table columns: by common names, or as the SPEC says."""

from __future__ import annotations

import difflib
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from alignment_jax.core.errors import DataError

_TEXTS = ("caption", "captions", "title", "text", "texts", "sentence", "sentences", "description", "comment")
_VIDEOS = ("video", "videos", "video_path", "video_file", "clip")  # the image is a frame
# role -> column names of open_clip, img2dataset, datasets and common archives, in lower case
ALIASES: dict[str, tuple[str, ...]] = {
    "image": (
        *("image", "images", "filepath", "file_path", "filename", "file_name", "file", "path", "image_path"),
        *("image_file", "image_filename", "image_filepath", "image_name", "img", "img_path", "img_name", "picture"),
        *("photo", *_VIDEOS),
    ),
    "caption": _TEXTS,
    "text": _TEXTS,
    "audio": ("audio", "audio_path", "audio_file", "audio_filename", "wav", "wav_path", "sound", "recording"),
    "label": ("label", "labels", "class", "class_name", "category"),
    "split": ("split",),
}
_SEVERAL = ("caption", "text")  # roles that several numbered columns may share
_NUMBERED = re.compile(r"(.*?[^\d_ .-])[_ .-]?\d+")
_ADDRESSES = ("url", "urls", "image_url", "img_url")


class Roles(NamedTuple):
    """Role -> numbers of its columns (several only for captions), and notes for the user."""

    places: dict[str, list[int]]
    notes: list[str]


def is_known(name: str, roles: Iterable[str], named: Mapping[str, str]) -> bool:
    """Whether a column of this name can have one of the roles.

    >>> is_known("Title", ["image", "caption"], {}), is_known("caption_2", ["caption"], {})
    (True, True)
    """
    if name.lower() in {each.lower() for each in named.values()}:
        return True
    low = _plain(name)
    numbered = _NUMBERED.fullmatch(low)
    return any(
        low in _aliases(role) or bool(role in _SEVERAL and numbered and numbered[1] in _aliases(role)) for role in roles
    )


def choose_roles(
    header: Sequence[str], choices: Sequence[Sequence[str]], named: Mapping[str, str] | None
) -> tuple[str, ...]:
    """The first set of roles that fits the columns and the options of the user; else the nearest one.

    Args:
      header: names of the columns, stripped.
      choices: sets of roles, the usual one first.
      named: as for `find_roles`.

    >>> choices = [("image", "caption"), ("audio", "caption")]
    >>> choose_roles(["audio", "title"], choices, {}), choose_roles(["x"], choices, {"audio": "x"})
    (('audio', 'caption'), ('audio', 'caption'))
    """
    given = {role for role in (named or {}) if any(role in choice for choice in choices)}

    def misses(choice: Sequence[str]) -> tuple[int, int]:
        absent = sum(role not in given and not any(is_known(name, [role], {}) for name in header) for role in choice)
        return len(given.difference(choice)), absent

    return min(map(tuple, choices), key=misses)


def find_roles(
    header: Sequence[str],
    path: pathlib.Path,
    *,
    required: Sequence[str],
    optional: Sequence[str],
    named: Mapping[str, str] | None,
) -> Roles:
    """Finds the columns of the roles.

    A column that the user names comes first, then the name of the role, then its aliases. Case does not matter.

    Args:
      header: names of the columns, stripped.
      path: the table, for messages.
      required, optional: the roles.
      named: role -> column, from the options of the SPEC; None if the source has no such options.

    Raises:
      DataError: a required role has no column, or several; the message says what to write.

    >>> find_roles(
    ...     ["Title", "filepath"], pathlib.Path("x.csv"), required=["image", "caption"], optional=[], named={}
    ... ).places
    {'image': [1], 'caption': [0]}
    """
    places: dict[str, list[int]] = {}
    found = " ".join(", ".join(name for name in header if name).split())[:200] or "none"  # one line
    for role in (*required, *optional):
        if named and named.get(role):
            places[role] = [_named(named[role], role, header, path, found)]
    missing = []
    for role in (*required, *optional):
        if role in places:
            continue
        taken = [k for columns in places.values() for k in columns]
        chosen = _by_name(role, header, path, can_name=named is not None, taken=taken)
        if chosen:
            places[role] = chosen
        elif role in required:
            missing.append(role)
    if missing:
        spare = sum(map(bool, header)) > sum(map(len, places.values()))
        can_name = named is not None and spare
        raise DataError(_nothing_found(path, header, found, missing, required, optional, can_name=can_name))
    other = [
        f"{role} is {', '.join(repr(header[k]) for k in places[role])}"
        for role in (*required, *optional)
        if role in places and not (named and named.get(role)) and [header[k].lower() for k in places[role]] != [role]
    ]
    notes = [f"{path}: {'; '.join(other)}"] if other else []
    return Roles(places, notes)


def near_miss(names: Iterable[str], roles: Iterable[str], *, can_name: bool) -> str:
    """The message about a column whose name is similar to a role without a column, or ""."""
    roles = list(roles)
    for name in names:
        for near in difflib.get_close_matches(name.lower(), roles, n=1, cutoff=0.8):
            option = f" then write {near}={name} or rename it;" if can_name else ""
            return f"unknown column {name!r}, did you mean {near!r}?{option}"
    return ""


def _plain(name: str) -> str:
    """A name in the spelling of the aliases: "Image Path" and "image-path" become "image_path"."""
    return re.sub(r"[ -]+", "_", name.lower())


def _aliases(role: str) -> tuple[str, ...]:
    return ALIASES.get(role, (role,))


def _named(name: str, role: str, header: Sequence[str], path: pathlib.Path, found: str) -> int:
    exact = [k for k, each in enumerate(header) if each == name]
    close = exact or [k for k, each in enumerate(header) if each.lower() == name.lower()]
    if len(close) == 1:
        return close[0]
    what = "no column" if not close else "more than one column"
    raise DataError(f"{path}: {role}={name}, but {what} {name!r}; found {found}")


def _by_name(
    role: str, header: Sequence[str], path: pathlib.Path, *, can_name: bool, taken: Sequence[int]
) -> list[int]:
    """Numbers of the columns of a role; empty if no name matches."""
    low = [_plain(name) for name in header]
    free = [k for k in range(len(header)) if k not in taken]
    families: dict[str, list[int]] = {}  # name without its number -> columns
    for k in free:
        numbered = _NUMBERED.fullmatch(low[k]) if role in _SEVERAL else None
        base = numbered[1] if numbered and low[k] not in _aliases(role) else low[k]
        if base in _aliases(role):
            families.setdefault(base, []).append(k)
    chosen = families.get(role)
    if chosen is None and len(families) == 1:
        (chosen,) = families.values()
    candidates = chosen if chosen is not None else [k for each in families.values() for k in each]
    same = [k for k in candidates if low.count(low[k]) > 1]
    if chosen is not None and len(same) > 1:
        exact = [k for k in same if header[k] == role]
        if len(exact) != 1:
            raise DataError(_two(path, role, [header[k] for k in same], can_name))
        return [k for k in chosen if k not in same or k in exact]
    if chosen is None and candidates:
        raise DataError(_two(path, role, [header[k] for k in candidates], can_name))
    return chosen or []


def _two(path: pathlib.Path, role: str, names: Sequence[str], can_name: bool) -> str:
    names = list(dict.fromkeys(names))
    if len(names) == 1:
        return f"{path}: a column occurs twice: {names[0]!r}; rename one"
    could = " and ".join(map(repr, names))
    write = f"write {' or '.join(f',{role}={name}' for name in names)} after the file" if can_name else "rename one"
    return f"{path}: more than one column could be the {role}: {could}; {write}"


def _nothing_found(
    path: pathlib.Path,
    header: Sequence[str],
    found: str,
    missing: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str],
    *,
    can_name: bool,
) -> str:
    expected = ", ".join(required) + "".join(f"[, {name}]" for name in optional)
    message = f"{path}: expected the columns {expected}; found {found}"
    address = next((name for name in header if name.lower() in _ADDRESSES), None)
    if "image" in missing and address is not None:
        return (
            f"{message}; {address!r} holds URLs: download the images with img2dataset --url_list={path} "
            f"--input_format={path.suffix.removeprefix('.') or 'csv'} --url_col={address} --output_folder=DIR "
            "--output_format=webdataset --caption_col=COLUMN, then write webdataset:DIR"
        )
    if any(name.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".wav", ".mp3")) for name in header):
        return f"{message}, which looks like a row: add a header with the column names"
    video = next((name for name in header if name.lower() in _VIDEOS), None)
    if "caption" in missing and video is not None:
        both = f",audio={video},image={video}"
        message += f"; to pair the sound of each video with one of its frames write {both} after the file"
    if not can_name:
        return f"{message}; {'or ' * (video is not None)}add {' and '.join(missing)}"
    return f"{message}; to name columns write {''.join(f',{role}=COLUMN' for role in missing)} after the file"
