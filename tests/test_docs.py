"""Code blocks of the documentation run, links and pictures exist, plots equal the output of their script."""

import ast
import pathlib
import re
import runpy

import pytest

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def identify(path):
    return path.relative_to(DOCS).as_posix()


@pytest.fixture
def registries():
    """Removes the entries that a page registers, because other tests iterate over the registries."""
    from alignment_jax.assembly.methods import LOSSES, SMOOTHINGS
    from alignment_jax.assembly.regularizers import REGULARIZERS
    from alignment_jax.config.recipes import METHODS
    from alignment_jax.data.sources import SOURCES
    from alignment_jax.report import METRIC_WRITERS
    from alignment_jax.sampling.orders import ORDERS

    all_of_them = (LOSSES, SMOOTHINGS, REGULARIZERS, METHODS, SOURCES, ORDERS, METRIC_WRITERS)
    saved = [(registry, dict(registry)) for registry in all_of_them]
    yield
    for registry, entries in saved:
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_pictures_and_named_files_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    named = re.findall(r"`((?:alignment_jax|tests|benchmarks|scripts|configs)/[\w/]+\.\w+)`", text)
    missing += [path for path in named if not (DOCS.parent / path).exists()]
    assert missing == []


def test_functions_named_on_the_reading_page_exist():
    page = (DOCS / "follow_one_number.md").read_text(encoding="utf-8")
    steps = re.findall(r"\]\((\.\./alignment_jax/[\w/]+\.py)\), ((?:`[\w.]+`,?\s?)+)", page)
    assert len(steps) > 10
    missing = [
        (path, name) for path, names in steps for name in re.findall(r"[\w.]+", names) if name not in defined_in(path)
    ]
    assert missing == []


def defined_in(path):
    """Functions, classes, constants of a module, and methods as Class.method."""
    names = set()
    for node in ast.parse((DOCS / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {
                ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            }
        elif name := getattr(node, "name", None):
            names |= {name} | {f"{name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


@pytest.mark.costly
@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_code_blocks_run(page, registries):
    """The blocks of a page run in order, in one namespace."""
    namespace = {}
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)):
        exec(compile(block, f"{identify(page)}, block {number}", "exec"), namespace)


@pytest.mark.slow
def test_plots_equal_the_output_of_their_script(tmp_path):
    """A changed schedule must change its picture."""
    plots = runpy.run_path(str(DOCS / "methods" / "plots.py"))
    plots["main"]([], tmp_path)
    drawn, kept = (sorted(path.name for path in folder.glob("*.svg")) for folder in (tmp_path, DOCS / "methods/images"))
    assert drawn == kept
    for name in drawn:
        assert paths_of(tmp_path / name) == paths_of(DOCS / "methods/images" / name), name


def paths_of(svg):
    """Every curve of a picture, with rounded coordinates, because fonts and floats may differ a little."""
    lines = re.findall(r'<path[^>]* d="([^"]+)"', svg.read_text(encoding="utf-8"))
    return [[round(float(x)) for x in re.findall(r"-?\d+\.?\d*", line)] for line in lines if len(line) > 200]
