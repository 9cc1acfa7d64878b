"""The versions that setup.cfg allows are those that continuous integration runs on and the documentation names."""

import configparser
import itertools
import pathlib
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
OLDEST = "scripts/oldest.txt"


def text(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def requirements(lines):
    """Requirement of every line that is not empty or a comment, by name."""
    found = [Requirement(line) for line in (line.partition("#")[0].strip() for line in lines.splitlines()) if line]
    return {requirement.name: requirement for requirement in found}


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read_string(text("setup.cfg"))
    return parser


@pytest.fixture(scope="module")
def pythons(setup):
    """As the classifiers name them, oldest first."""
    return re.findall(r":: Python :: (3\.\d+)$", setup["metadata"]["classifiers"], re.M)


@pytest.fixture(scope="module")
def required(setup):
    return requirements(setup["options"]["install_requires"])


@pytest.fixture(scope="module")
def job():
    (job,) = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"].values()
    return job


def end(requirement, operator):
    """The one version of a requirement after ==, >= or <."""
    (version,) = [part.version for part in requirement.specifier if part.operator == operator]
    return Version(version)


def test_python_is_named_alike_everywhere(setup, pythons):
    near = [f"3.{minor}" for minor in range(8, 20)]
    assert [python for python in near if python in SpecifierSet(setup["options"]["python_requires"])] == pythons
    first, last = (tuple(map(int, python.split("."))) for python in (pythons[0], pythons[-1]))
    script = text("scripts/venv.sh")
    assert f"{first} <= sys.version_info[:2] <= {last}" in script
    assert re.findall(r"python(3\.\d+)", script.split("for candidate in")[1].split(";")[0]) == pythons[::-1]
    tools = tomllib.loads(text("pyproject.toml"))["tool"]
    assert tools["ruff"]["target-version"] == "py" + pythons[0].replace(".", "")
    assert "python_version" not in tools["mypy"]  # each Python checks the types that its NumPy has
    for page in ("README.md", "docs/start.md"):
        assert f"Python {pythons[0]} to {pythons[-1]}" in text(page)


def test_every_python_runs_on_both_ends_and_other_processors_too(job, pythons):
    matrix = job["strategy"]["matrix"]
    axes = {name: values for name, values in matrix.items() if name != "include"}
    rows = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    rows = {(row["python"], row["versions"], row["isa"]) for row in [*rows, *matrix["include"]]}
    assert {(python, end, "") for python in pythons for end in ("oldest", "newest")} <= rows
    corners = ((pythons[0], "oldest"), (pythons[-1], "newest"))
    assert {(*corner, isa) for corner in corners for isa in ("AVX2", "SSE4_2")} <= rows
    assert {python for python, *_ in rows} == set(pythons)
    environment = job["env"]
    assert environment["PYTHON"] == "python${{ matrix.python }}"
    constraint = f"matrix.versions == 'oldest' && format('{{0}}/{OLDEST}', github.workspace) || ''"
    assert environment["PIP_CONSTRAINT"] == f"${{{{ {constraint} }}}}"
    assert "--xla_cpu_max_isa={0}" in environment["XLA_FLAGS"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["./test.sh --parity"]


def test_the_oldest_versions_are_the_lower_ends(setup, required):
    oldest = {name: end(requirement, "==") for name, requirement in requirements(text(OLDEST)).items()}
    assert oldest.pop("jaxlib") == oldest["jax"]
    extra = requirements(setup["options.extras_require"]["train"])
    lowest = {name: end(requirement, ">=") for name, requirement in {**extra, **required}.items()}
    assert set(required) <= set(oldest)
    assert oldest == {name: lowest[name] for name in oldest}


def test_jax_has_an_upper_end_everywhere(setup, required):
    allowed = required["jax"].specifier
    assert end(required["jax"], "<") > end(required["jax"], ">=")
    for extra, lines in setup["options.extras_require"].items():
        named = requirements(lines).get("jax")
        assert named is None or named.specifier == allowed, extra


def test_the_documentation_names_the_versions_that_were_tried(required, pythons):
    """Rows of Python, jax, flax, numpy and tests: both ends ran, and the newest is the limit of setup.cfg."""
    section = text("docs/start.md").split("## Supported versions")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line][2:]
    assert {row[0] for row in rows} == set(pythons)
    for name, column in (("jax", 1), ("flax", 2), ("numpy", 3)):
        tried = [Version(row[column]) for row in rows]
        assert all(required[name].specifier.contains(version) for version in tried), name
        assert min(tried) == end(required[name], ">="), name
    newest = max(Version(row[1]) for row in rows)
    assert end(required["jax"], "<") == Version(f"{newest.major}.{newest.minor + 1}")
    assert f"jax from {end(required['jax'], '>=')} to {newest.major}.{newest.minor}" in section
