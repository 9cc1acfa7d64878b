"""Renders the jinja2 templates of this package, with autoescape on."""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import Any

from alignment_jax.core.optional import require

# HTML has no control characters and no lone surrogates.
_NOT_IN_HTML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _printable(value: Any) -> Any:
    return value if hasattr(value, "__html__") else _NOT_IN_HTML.sub("\ufffd", str(value))


@functools.cache
def _jinja() -> Any:
    jinja2 = require("jinja2", extra="train", purpose="write an HTML page")
    return jinja2.Environment(
        loader=jinja2.PackageLoader("alignment_jax.report"),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(template: str, **values: Any) -> str:
    """The text of a template.

    Args:
      template: file name in `templates/`.
      **values: its variables; plain text is escaped, Markup is not.

    Raises:
      MissingPackageError: jinja2 is not installed.
    """
    return str(_jinja().get_template(template).render(**values))


def macros(template: str) -> Any:
    """The macros of a template; calling one returns Markup, its arguments escaped.

    Raises:
      MissingPackageError: jinja2 is not installed.

    >>> print(macros("blocks.html").paragraph("a < b"))
    <p>a &lt; b</p>
    """
    return _jinja().get_template(template).module


def escape(value: Any) -> str:
    """Text as Markup, safe inside HTML elements and quoted attributes.

    >>> print(escape('<script>alert("x")</script>'))
    &lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;
    """
    return require("markupsafe", extra="train", purpose="write an HTML page").escape(_printable(value))


@functools.cache
def template_source(file: str) -> str:
    """The text of a file in `templates/`, not rendered."""
    return (importlib.resources.files("alignment_jax.report") / "templates" / file).read_text(encoding="utf-8")


def trusted_html(html: str) -> Any:
    """Markup of HTML that this package made or ships: it is not escaped again."""
    return require("markupsafe", extra="train", purpose="write an HTML page").Markup(html)
