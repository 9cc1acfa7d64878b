"""Code blocks are at most 88 characters wide on the site and 100 in the repository's own pages.

Wider blocks need scrolling, which a reader may not notice.
"""

import pathlib

import pytest

markdown_it = pytest.importorskip("markdown_it", reason="needs pip install -e '.[docs]'")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SITE = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
REPOSITORY = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "colab" / "README.md"]


def too_wide(text, most):
    """Lines of code blocks, fenced or indented, that are wider than `most`, indentation of the block included."""
    blocks = [token for token in markdown_it.MarkdownIt().parse(text) if token.type in ("fence", "code_block")]
    return [
        line
        for block in blocks
        for line in block.content.splitlines()
        if len(line) + block.level > most  # a list item has two levels and indents by two characters
    ]


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_code_fits_the_column_of_the_site(page):
    assert too_wide(page.read_text(encoding="utf-8"), 88) == []


@pytest.mark.parametrize("page", REPOSITORY, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_fits_the_column_of_the_repository(page):
    assert too_wide(page.read_text(encoding="utf-8"), 100) == []


def test_both_kinds_of_blocks_are_measured_and_text_is_not():
    long = "x" * 20
    assert too_wide(f"```bash\n{long}\n```\n\n    {long}\n\n{long}\n\n- item\n\n  ```\n  {long[:18]}\n  ```\n", 19) == [
        long,
        long,
        long[:18],
    ]
