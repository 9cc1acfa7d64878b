"""Expands file patterns of WebDataset: `shards/{00000..00012}.tar`, `a.tar::b.tar`, `shards/*.tar`."""

from __future__ import annotations

import glob
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

from alignment_jax.core.errors import DataError

_MOST = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(pattern: str) -> Iterator[str]:
    """Expands braces to all names, in order; numbers keep their leading zeros.

    >>> list(expand_braces("{train,val}-{08..10}.tar"))[2:4]
    ['train-10.tar', 'val-08.tar']
    """
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    numbers = _RANGE.fullmatch(found[1])
    pieces: Iterable[str] = found[1].split(",")
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        pieces = (f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1))
    for piece in pieces:
        yield from expand_braces(f"{pattern[: found.start()]}{piece}{pattern[found.end() :]}")


def matching_files(pattern: str, *, what: str) -> list[pathlib.Path]:
    """The files of a pattern, each once; all of them must exist.

    Args:
      pattern: names with braces or with * and ?, several joined by `::`.
      what: plural noun for messages ("shards").

    Raises:
      DataError: a file is missing, or the pattern matches none.
    """
    paths: dict[pathlib.Path, None] = {}
    missing: list[pathlib.Path] = []
    for part in pattern.split("::"):
        for number, name in enumerate(expand_braces(os.path.expanduser(part))):
            if number >= _MOST:
                raise DataError(f"{pattern}: more than {_MOST} {what}; name fewer")
            path = pathlib.Path(name)
            if path.is_file():
                paths[path] = None
            elif glob.has_magic(name) and not path.exists():
                paths |= dict.fromkeys(
                    pathlib.Path(each) for each in sorted(glob.glob(name)) if not os.path.isdir(each)
                )
            else:
                missing.append(path)
    if missing and paths:
        raise DataError(
            f"{missing[0]}: no such file; {len(paths)} of the {len(paths) + len(missing)} {what} of {pattern} exist, "
            f"up to {list(paths)[-1].name}: name only those, or copy the others"
        )
    if not paths:
        what_now = "no such folder" if missing and missing[0].parent.is_dir() is False else f"no such {what}"
        raise DataError(f"{pattern}: {what_now}; name a folder or files, as in shards/{{00000..00012}}.tar")
    return list(paths)


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern of several files.

    >>> is_pattern("a/{0..3}.tar"), is_pattern("a/b.tar")
    (True, False)
    """
    return "::" in name or _BRACES.search(name) is not None or glob.has_magic(name)
