"""A page and the blocks it consists of; each function returns HTML as Markup."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignment_jax.core.deprecation import renamed_keywords
from alignment_jax.report.pictures import data_url
from alignment_jax.report.rendering import macros, render_template, template_source, trusted_html
from alignment_jax.report.tables import Table, table, to_html


def _fingerprint(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@renamed_keywords(lead="subtitle")
def page(title: str, sections: Iterable[str], *, subtitle: str | Sequence[str] = "", language: str = "en") -> str:
    """A whole page: one file without network access, light or dark as the system, readable on a phone and in print.

    Args:
      title: the heading, plain text.
      sections: results of `section`; empty ones are left out. Plain text is escaped.
      subtitle: a line below the title, plain text, or its parts; a line break falls between parts where it can.
      language: of the text.

    Returns:
      The HTML document.

    Raises:
      MissingPackageError: jinja2 is not installed.

    >>> page("A <run>", [section("Notes", bullet_list(["one"]))]).count("A &lt;run&gt;")
    2
    """
    style, script = template_source("style.css"), template_source("sort.js")
    # A second defence behind the escaping: the browser refuses every request and every other script.
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_fingerprint(style)}'; script-src '{_fingerprint(script)}'"
    )
    return render_template(
        "page.html",
        title=title,
        subtitle=[part for part in ([subtitle] if isinstance(subtitle, str) else subtitle) if part],
        language=language,
        policy=policy,
        sections=[part for part in sections if part],
        style=trusted_html(style),
        script=trusted_html(script),
    )


def section(heading: str, body: str) -> str:
    """A titled part of a page; "" when there is no body.

    Args:
      heading: plain text; its letters become the anchor.
      body: Markup; plain text is escaped.

    >>> section("Cost & time", paragraph("1 h"))
    Markup('<section id="cost-time"><h2>Cost &amp; time</h2>\\n<p>1 h</p>\\n</section>')
    >>> section("Nothing", "")
    ''
    """
    if not body:
        return ""
    anchor = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "part"
    return macros("blocks.html").section(heading, anchor, body)


def joined(blocks: Iterable[str], separator: str = "\n") -> str:
    """Blocks in sequence, empty ones left out; "" when all are empty."""
    kept = [block for block in blocks if block]
    return trusted_html(separator).join(kept) if kept else ""


def paragraph(text: str) -> str:
    """Plain text as a paragraph; "" when there is none."""
    return macros("blocks.html").paragraph(text) if text else ""


def bullet_list(items: Sequence[Any]) -> str:
    """Plain texts as a list; "" when there are none."""
    return macros("blocks.html").bullet_list(items) if items else ""


def word_table(table: Table | None, caption: str = "") -> str:
    """A table whose cells are phrases: on a phone they are not broken word by word. "" for None."""
    return "" if table is None else macros("blocks.html").group("words", to_html(table, caption=caption))


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


def key_value_table(
    values: Mapping[str, Any], *, columns: tuple[str, str] = ("setting", "value"), sortable: bool = False
) -> str:
    """Names and values as a table of two columns, nested ones flattened; "" when there are none.

    >>> "<td>0.07</td>" in key_value_table({"loss": {"temperature": 0.07}})
    True
    """
    flat = flatten(values)
    if not flat:
        return ""
    rows = [[name, _value_text(value)] for name, value in flat.items()]
    return macros("blocks.html").group("facts", to_html(table(columns, rows), sortable=sortable))


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(item) for item in value) if value else "(empty)"
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
      light: picture file for a light page and for print.
      dark: the same for a dark page; None to use `light` everywhere.
      description: alternative text for readers who cannot see the chart.
      caption: plain text below it.
      file: address of the same picture as a file, relative to the page.
      wide: take the whole width of a group of charts.
    """
    dark_url = data_url(dark) if dark is not None else None
    return macros("blocks.html").picture(data_url(light), dark_url, description, caption, file, wide)


def chart_group(pictures: Sequence[str]) -> str:
    """Pictures side by side, below each other on a phone; "" when there are none."""
    return macros("blocks.html").group("charts", joined(pictures, "")) if pictures else ""
