"""One page, several scripts: each rewrites its own part of a Markdown page and leaves the rest as it is.

A part is between `<!-- begin NAME -->` and `<!-- end NAME -->`. The script that measures something writes its part,
so a number in the page never comes from anywhere else.
"""

from __future__ import annotations

import os
import pathlib

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "results.md"


def write_section(name: str, text: str, *, page: pathlib.Path = RESULTS) -> None:
    """Replaces the part `name` of the page, as a whole or not at all; a new part goes to the end.

    Args:
      name: of the part, one word.
      text: Markdown, without the markers.
      page: the file, which must exist.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = page.read_text(encoding="utf-8")
    part = f"{begin}\n{text.strip()}\n{end}"
    if begin in old:
        before, _, rest = old.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{page}: {begin!r} has no {end!r}")
        new = before + part + after
    else:
        new = f"{old.rstrip()}\n\n{part}\n"
    draft = page.with_name(page.name + ".new")
    draft.write_text(new, encoding="utf-8")
    os.replace(draft, page)
