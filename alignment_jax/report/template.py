"""The base of every page and the blocks it is put together from; each block is a function that returns HTML."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignment_jax.report.pictures import data_url
from alignment_jax.report.style import SCRIPT, STYLE
from alignment_jax.report.tables import escape, table, to_html


def _fingerprint(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


# The browser itself refuses every request and every script but ours, should anything ever slip past the escaping.
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
    f"style-src '{_fingerprint(STYLE)}'; script-src '{_fingerprint(SCRIPT)}'"
)


def page(title: str, sections: Iterable[str], *, lead: str | Sequence[str] = "", language: str = "en") -> str:
    """A whole page: one file, no network, light or dark as the reader's system, fit for a phone and for print.

    Args:
      title: the heading, plain text.
      sections: HTML from `section`; empty ones are left out.
      lead: a line below the title, plain text, or its parts, which are kept together where they fit.
      language: of the text.

    Returns:
      The HTML document.

    >>> page("A <run>", [section("Notes", bullet_list(["one"]))]).count("A &lt;run&gt;")
    2
    """
    body = "\n".join(part for part in sections if part)
    parts = [lead] if isinstance(lead, str) else lead
    below = " · ".join(f"<span>{escape(part)}</span>" for part in parts if part)
    below = f'<p class="lead">{below}</p>' if below else ""
    return f"""<!DOCTYPE html>
<html lang="{escape(language)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header><h1>{escape(title)}</h1>{below}</header>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def section(heading: str, body: str) -> str:
    """A titled part of a page; nothing at all when there is no body.

    Args:
      heading: plain text; its letters become the part's address on the page.
      body: HTML.

    >>> section("Cost & time", "<p>1 h</p>")
    '<section id="cost-time"><h2>Cost &amp; time</h2>\\n<p>1 h</p>\\n</section>'
    >>> section("Nothing", "")
    ''
    """
    if not body:
        return ""
    anchor = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "part"
    return f'<section id="{anchor}"><h2>{escape(heading)}</h2>\n{body}\n</section>'


def bullet_list(items: Sequence[Any]) -> str:
    """Plain texts as a list; nothing when there are none."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted names.

    >>> flatten({"model": {"dim": 32, "towers": [1, {"x": 2}]}, "empty": {}})
    {'model.dim': 32, 'model.towers': [1, {'x': 2}], 'empty': '(empty)'}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, name + ".") if value else {name: "(empty)"})
        else:
            flat[name] = value
    return flat


def facts(values: Mapping[str, Any], *, columns: tuple[str, str] = ("setting", "value"), sortable: bool = False) -> str:
    """Names and values as a table of two columns, nested ones flattened; nothing when there are none.

    >>> "<td>0.07</td>" in facts({"loss": {"temperature": 0.07}})
    True
    """
    flat = flatten(values)
    if not flat:
        return ""
    rows = [[name, _fact_text(value)] for name, value in flat.items()]
    return f'<div class="facts">{to_html(table(columns, rows), sortable=sortable)}</div>'


def _fact_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_fact_text(item) for item in value) if value else "(empty)"
    return str(value)


def picture(
    light: bytes,
    dark: bytes | None = None,
    *,
    description: str,
    caption: str = "",
    file: str = "",
    wide: bool = False,
) -> str:
    """A chart inside the page, in two versions for light and dark screens.

    Args:
      light: picture file for a light page, used in print.
      dark: the same for a dark page; None to use `light` everywhere.
      description: what the chart shows, for those who cannot see it.
      caption: plain text below it.
      file: address, relative to the page, of the same picture as a file of its own.
      wide: take the whole width of a group of charts.
    """
    source = ""
    if dark is not None:
        source = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{data_url(dark)}">'
    link = f' <a class="screen" href="{escape(file)}">SVG file</a>' if file else ""
    below = f"<figcaption>{escape(caption)}{link}</figcaption>" if caption or link else ""
    kind = ' class="wide"' if wide else ""
    image = f'<img src="{data_url(light)}" alt="{escape(description)}">'
    return f"<figure{kind}><picture>{source}{image}</picture>{below}</figure>"
