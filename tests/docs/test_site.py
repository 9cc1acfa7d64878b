"""The site builds without a warning, and every public name is on a page of the API reference."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import alignment_jax as aj

DOCS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs"
SUBPACKAGES = sorted(
    path.parent.name
    for path in pathlib.Path(aj.__file__).parent.glob("*/__init__.py")
    if path.parent.name in aj.__all__
)


@pytest.mark.parametrize("subpackage", SUBPACKAGES)
def test_every_public_name_has_a_docstring_and_a_page(subpackage):
    module = importlib.import_module(f"alignment_jax.{subpackage}")
    page = (DOCS / "api" / f"{subpackage}.md").read_text(encoding="utf-8")
    assert f"automodule:: alignment_jax.{subpackage}" in page
    assert module.__doc__
    for name in getattr(module, "__all__", ()):
        found = getattr(module, name)
        if callable(found) and getattr(found, "__module__", "").startswith("alignment_jax"):
            assert found.__doc__, f"{subpackage}.{name} has no docstring"


def test_no_package_is_described_as_unfinished():
    """The API page of a package and `help()` show its first line."""
    package = pathlib.Path(aj.__file__).parent
    for path in sorted(package.rglob("__init__.py")):
        described = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert described, path
        assert not re.search(r"being built|todo|tbd|placeholder|coming soon", described, re.I), path


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for index in DOCS.rglob("*.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(encoding="utf-8"), re.S):
            entries = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {page.resolve() for entry in entries for page in index.parent.glob(f"{entry}.md")}
    pages = {page.resolve() for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    outside = {DOCS / "index.md"}
    assert sorted(page.name for page in pages - listed - outside) == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the documentation's generator is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path / "html")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    reference = (tmp_path / "html" / "api" / "losses.html").read_text(encoding="utf-8")
    assert "smoothing" in reference
