"""The page of a search: the found items with pictures, scores and captions."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from alignment_jax.core.storage import write_text_atomic
from alignment_jax.report.blocks import page, section
from alignment_jax.report.gallery import image_values
from alignment_jax.report.pictures import encode_picture
from alignment_jax.report.rendering import macros

_LONGEST_SIDE = 400  # pixels of a picture: twice its width on the page, for dense screens


@dataclasses.dataclass(frozen=True)
class ShownHit:
    """A found item to show: name or text, score, caption, and pixels (see `encode_picture`) or None."""

    name: str
    score: float
    caption: str = ""
    picture: Any = None


def write_hits_page(
    path: str | os.PathLike[str],
    *,
    query: str,
    hits: Sequence[ShownHit],
    query_picture: Any = None,
    subtitle: Sequence[str] = (),
) -> None:
    """Writes the page; it needs no other file, and text from data is escaped.

    Args:
      path: the HTML file.
      query: the phrase, or the name of the picture that was searched for.
      hits: best first.
      query_picture: pixels of that picture; None for a phrase.
      subtitle: parts of the line below the title.

    Raises:
      MissingPackageError: pillow or jinja2 is not installed.
      RunError: the file cannot be written.
    """
    found = macros("items.html")
    asked = "" if query_picture is None else found.asked_picture(query, _picture(query_picture))
    items = [
        {
            "place": place,
            "name": hit.name,
            "score": f"{hit.score:.3f}",
            "caption": hit.caption,
            "picture": None if hit.picture is None else _picture(hit.picture),
        }
        for place, hit in enumerate(hits, start=1)
    ]
    title = f"“{query}”" if query_picture is None else f"Like {query}"
    sections = [section("Query", asked), section("Results", found.hits(items))]
    write_text_atomic(path, page(title, sections, subtitle=subtitle))


def _picture(pixels: Any) -> dict[str, Any]:
    return image_values(encode_picture(pixels, longest_side=_LONGEST_SIDE))
