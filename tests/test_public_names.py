"""Other libraries by their public names: a private or experimental one may be gone in the next version."""

import ast
import importlib
import pathlib
import types
import warnings

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
FILES = [
    path for folder in ("alignment_jax", "tests", "benchmarks", "examples", "colab", "configs", "docs")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]  # fmt: skip
LIBRARIES = {"jax", "jaxlib", "flax", "optax", "orbax", "chex", "numpy"}
UNSTABLE = ("jax.core", "jax.experimental", "jax.extend", "jax.interpreters", "jax.lib")
# Names that are not stable, and exist in the oldest and in the newest jax that setup.cfg allows.
ALLOWED = {
    "jax.core.Tracer",
    "jax.experimental.compilation_cache.compilation_cache",
    "jax.experimental.multihost_utils",
    "jax.experimental.pallas",
    "jax.experimental.pallas.tpu",
    "jax.experimental.topologies",
    "jax.extend.core.ClosedJaxpr",
    "jax.extend.core.Jaxpr",
    "jax.extend.core.Var",
}
# Files that need more: there is no public way between the options of one jax.jit and those of a process.
ALLOWED_IN = {"tests/compiler_level.py": ["jax._src.compiler", "jax._src.compiler.get_compile_options"]}


def dotted(node):
    """`a.b.c` of an attribute's node, or None where it does not start at a name."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return start and f"{start}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def names(source):
    """Every dotted name from another library: imported, or reached as an attribute of an imported module."""
    tree, modules = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else None
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := dotted(node)):
            first, _, rest = name.partition(".")
            if first in modules:
                yield f"{modules[first] or first}.{rest}"


def unstable(source):
    for name in sorted(set(names(source))):
        first, *parts = name.split(".")
        if first == "jax" and f"{name}.".startswith(tuple(f"{prefix}." for prefix in UNSTABLE)):
            # An attribute of an allowed module is allowed; so is the way to it.
            if not any(f"{name}.".startswith(f"{a}.") or f"{a}.".startswith(f"{name}.") for a in ALLOWED):
                yield name
        elif first in LIBRARIES and any(part.startswith("_") and not part.startswith("__") for part in parts):
            yield name


@pytest.mark.slow
def test_other_libraries_are_used_by_public_names():
    found = {path.relative_to(REPOSITORY).as_posix(): [*unstable(path.read_text(encoding="utf-8"))] for path in FILES}
    assert {path: names for path, names in found.items() if names} == ALLOWED_IN


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from jax._src import core", "jax._src.core"),
        ("def f(x):\n    import jax\n    return jax.interpreters.ad.zeros(x)", "jax.interpreters.ad.zeros"),
        ("import jax as j\nj.core.get_aval(1)", "jax.core.get_aval"),
        ("from jax.experimental import shard_map", "jax.experimental.shard_map"),
        ("from orbax.checkpoint import _internal as x", "orbax.checkpoint._internal"),
        ("import numpy as np\nnp.linalg._umath_linalg", "numpy.linalg._umath_linalg"),
        ("import jax\nisinstance(1, jax.core.Tracer), jax.lax.psum, jax.__version__", None),
        ("from jax.experimental import pallas as pl\npl.BlockSpec()", None),
    ],
)
def test_an_unstable_name_is_found(source, found):
    assert max(unstable(source), default=None) == found


def resolve(name):
    """Looks a dotted name up, as far as modules and classes go; raises where it is gone or deprecated."""
    first, *rest = name.split(".")
    found, path = importlib.import_module(first), first
    for part in rest:
        if not isinstance(found, types.ModuleType | type):
            return
        path = f"{path}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(path)  # a module that its package does not import


@pytest.mark.slow
def test_every_name_exists_and_is_not_deprecated():
    """Also where no test comes by: kernels for a TPU, branches for several processes."""
    used = {name for path in FILES for name in names(path.read_text(encoding="utf-8"))}
    used = {name for name in used if name.partition(".")[0] in LIBRARIES}
    assert {"jax.lax.pcast", "jax.experimental.pallas.tpu.CompilerParams"} <= used
    problems = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for name in sorted(used):
            try:
                resolve(name)
            except (ImportError, AttributeError, DeprecationWarning) as error:
                problems[name] = repr(error)
    assert problems == {}


@pytest.mark.parametrize("name", ["jax.no_such", "jax.lax.no_such", "jax.experimental.no_such", "numpy.float_"])
def test_a_name_that_is_gone_is_found(name):
    with pytest.raises((ImportError, AttributeError)):
        resolve(name)
