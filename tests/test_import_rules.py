"""Import rules beyond the contracts of import-linter in pyproject.toml: other packages, files, light imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "alignment_jax"

NUMERIC = {"jax", "numpy", "optax", "chex"}

# Subpackage -> the packages from outside that it may import beside the standard library; cli may import any.
OUTSIDE = {
    "core": {"jax", "numpy", "chex"},
    **dict.fromkeys(
        (
            "balance",
            "losses",
            "schedules",
            "weighting",
            "perturb",
            "similarity",
            "metrics",
            "baselines",
            "regularizers",
            "retrieval",
            "train",
        ),
        NUMERIC,
    ),
    **{name: {"numpy"} for name in ("sampling", "data", "extract", "report")},
    "models": {"flax", "jax", "numpy"},
    "evals": {"jax", "numpy"},
    "config": {"ml_collections"},
    "assembly": {"jax", "numpy", "flax", "optax", "ml_collections"},
    "inference": {"jax", "numpy", "ml_collections"},
    "compare": {"jax", "numpy", "ml_collections"},
    "benchmarking": {"jax", "numpy"},
}
# Files that may import less, or more, than their subpackage: (own subpackages, packages from outside).
FILES = {
    "core/storage": (set(), {"numpy"}),
    "core/jsonl": (set(), set()),
    # The step and its parts use no files, reports or host state.
    **dict.fromkeys(
        tuple(
            f"train/{name}"
            for name in (
                "score_tracking",
                "score_pass",
                "state",
                "step",
                "optimizer",
                "gradient_cache",
                "device_data_set",
                "memory_plan",
            )
        ),
        ({"core"}, NUMERIC),
    ),
    "train/classification_objective": ({"balance", "core", "sampling"}, NUMERIC),
    "train/encoder_parameters": ({"core"}, set()),
    "train/objective": ({"core", "losses", "weighting"}, NUMERIC),
    "train/perturbation": ({"core", "perturb"}, NUMERIC),
    "train/regularization": ({"core", "regularizers"}, NUMERIC),
    "train/evaluation": ({"core", "evals"}, {"jax", "numpy"}),
    "train/experiment": ({"core", "retrieval", "sampling"}, NUMERIC),
    "train/batching": ({"core"}, {"numpy"}),
    "train/workdir": ({"core"}, set()),
    "train/mirror": ({"core"}, set()),
    "train/background": (set(), set()),
    "train/snapshot": (set(), set()),
    "train/preemption": ({"core"}, {"jax"}),
    "train/checkpoint": ({"core"}, {"jax", "numpy", "orbax"}),
    "extract/pretrained": ({"core", "models"}, {"jax", "numpy"}),
    "compare/paired_differences": (set(), {"numpy", "scipy"}),
    "compare/item_scores": (set(), {"numpy"}),
    "compare/run_matrix": ({"core"}, set()),
    "compare/search": ({"core"}, {"numpy"}),
    "compare/summary": ({"core"}, {"numpy"}),
    "config/search_space": (set(), set()),
    "config/shipped": (set(), set()),
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").as_posix(), path


def imports(path):
    """Dotted names of every import in a file, `if TYPE_CHECKING` included: a type is a dependency as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(name, path):
    subpackage = name.split("/")[0]
    own, outside = FILES.get(name, (None, OUTSIDE.get(subpackage)))
    for imported in imports(path):
        top, *rest = imported.split(".")
        if top == "alignment_jax":
            target = rest[0] if rest else ""
            if own is not None and target not in own | {subpackage}:
                yield f"{name} imports alignment_jax.{'.'.join(rest)}"
        elif top not in sys.stdlib_module_names and outside is not None and top not in outside:
            yield f"{name} imports {top}"


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_follow_the_rules(name, path):
    assert list(violations(name, path)) == []


def test_every_subpackage_has_a_rule():
    assert {name.split("/")[0] for name, _ in modules()} - {"__init__", "__main__", "_moved", "cli"} == set(OUTSIDE)


def test_every_file_with_a_rule_exists():
    assert set(FILES) <= {name for name, _ in modules()}


def test_the_layers_hold():
    """`lint-imports` also fails where a subpackage is in no layer."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    found = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_a_forbidden_import_is_found(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import flax\n    from alignment_jax import report\n")
    assert list(violations("losses/bad", bad)) == ["losses/bad imports flax"]
    assert len(list(violations("train/step", bad))) == 2


@pytest.mark.costly
@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import alignment_jax as aj", "jax numpy flax grain tensorflow matplotlib sklearn orbax absl"),
        ("import alignment_jax as aj; aj.losses.infonce; aj.schedules.mm_ts; aj.weighting.directional",
         "flax grain tensorflow matplotlib sklearn orbax ml_collections PIL"),
        ("import alignment_jax as aj; aj.sampling.pacing", "flax grain tensorflow matplotlib sklearn orbax"),
        ("import alignment_jax as aj; aj.data.load", "flax grain tensorflow matplotlib sklearn orbax PIL"),
    ],
)  # fmt: skip
def test_importing_stays_light(statement, absent):
    code = f"{statement}\nimport sys\nprint(' '.join(m for m in {absent.split()!r} if m in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == []
