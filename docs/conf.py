"""Sphinx settings: `scripts/docs.sh` builds the site from this folder."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import alignment_jax

project = "alignment_jax"
author = "the alignment_jax authors"
copyright = author
version = release = alignment_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"alignment_jax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# Pages are read on the repository's site as well: links to code are links to files there.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure", "ref.python"]
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {
    "exclude-members": "setup, parent, name, scope, ConfigDict, PyTree, Array, Batch"
}  # of every flax module

SECTIONS = re.compile(r"^(Args|Arguments|Attributes|Raises|Returns|Yields|Example|Examples):\s*$")
FIELD = re.compile(r"^((?:[a-z_]+)(?:, [a-z_]+)*): (.*)$")


def escaped(line):
    """Bars and stars stand for themselves, except in code."""
    if ">>>" in line:
        return line
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def plain_docstring(app, what, name, obj, options, lines):
    """Our docstrings as reStructuredText: indented formulas as they stand, `name: meaning` lines as a list."""
    shown, in_section, in_formula, in_list = [], False, False, False
    previous = ""
    for line in lines:
        if not line.startswith(" ") and line:
            in_section, in_formula = bool(SECTIONS.match(line)), False
            field = FIELD.match(line)
            if field and not in_section:
                shown += [] if in_list else [""]
                shown.append(f"* **{field[1]}**: {escaped(field[2])}")
                in_list, previous = True, line
                continue
            if in_list:
                shown.append("")
            in_list = False
        indented = line.startswith("  ") and not in_section
        if indented and in_list:
            shown.append("  " + escaped(line.strip()))
        elif indented and (in_formula or previous.endswith(":")):
            if not in_formula:
                shown += ["", "::", ""]
            in_formula = True
            shown.append("  " + line)
        else:
            shown += ["", escaped(line)] if in_formula and line else [escaped(line)]
            in_formula = in_formula and not line
        previous = line or previous
    lines[:] = shown


def setup(app):
    # Before napoleon, which reads what we leave.
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
