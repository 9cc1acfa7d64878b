"""Which room may import which: read from the source, so that a forbidden import fails even inside a function."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "alignment_jax"

FUNCTIONAL = ("losses", "schedules", "weighting", "perturb", "similarity", "metrics", "baselines")
NUMERIC = {"jax", "numpy", "optax", "chex"}

# room or file -> (rooms of this package, packages from outside) beyond itself and the standard library
RULES = {
    "core": (set(), {"jax", "numpy", "chex"}),
    "core/storage": (set(), {"numpy"}),
    "core/jsonl": (set(), set()),
    **{room: ({"core"}, NUMERIC) for room in FUNCTIONAL},
    "losses": ({"core", "similarity"}, NUMERIC),
    "weighting": ({"core", "similarity"}, NUMERIC),
    "sampling": ({"core"}, {"numpy"}),
    "models": ({"core"}, {"flax", "jax", "numpy"}),
    "data": ({"core"}, {"numpy"}),
    "extract": ({"core", "data"}, {"numpy"}),
    "evals": ({"core", "metrics"}, {"numpy", "jax"}),
    "report": ({"core"}, {"numpy"}),
    "train": ({"core"}, NUMERIC),
    "train/evaluation": ({"core", "evals"}, {"jax", "numpy"}),
    "train/objective": ({"core", "losses", "weighting"}, NUMERIC),
    "train/perturbation": ({"core", "perturb"}, NUMERIC),
    "train/experiment": ({"core", "sampling"}, NUMERIC),
    "train/batching": ({"core"}, {"numpy"}),
    "train/workdir": ({"core"}, set()),
    "train/mirror": ({"core"}, set()),
    "train/processes": ({"core"}, {"jax", "numpy"}),
    "train/messages": ({"core"}, {"jax", "numpy"}),
    "train/background": (set(), set()),
    "train/snapshot": (set(), set()),
    "train/preemption": ({"core"}, {"jax"}),
    "train/checkpoint": ({"core"}, {"jax", "numpy", "orbax"}),
    "train/loop": ({"core", "evals", "report", "sampling", "data"}, {"jax", "numpy"}),
    "compare": (
        {"core", "config", "assembly", "inference", "data", "train", "report"},
        {"jax", "numpy", "ml_collections"},
    ),
    "compare/paired_differences": (set(), {"numpy", "scipy"}),
    "compare/item_scores": (set(), {"numpy"}),
    "compare/run_matrix": ({"core"}, set()),
    "compare/search": ({"core"}, {"numpy"}),
    "compare/time_left": ({"report"}, set()),
    "compare/run_records": ({"core", "report", "train"}, set()),
    "compare/summary": ({"core"}, {"numpy"}),
    "compare/result_files": ({"core", "report"}, set()),
    "config": ({"core"}, {"ml_collections"}),
    # models for its names of encoders, and only where a word may also be a column.
    "config/arguments": ({"core", "data", "models"}, {"ml_collections"}),
    "config/limits": ({"core", "train"}, {"ml_collections"}),
    "config/search_space": (set(), set()),
    "config/shipped": (set(), set()),
    "assembly": (
        {
            "core",
            "config",
            "data",
            "models",
            "losses",
            "similarity",
            "weighting",
            "schedules",
            "sampling",
            "baselines",
            "evals",
            "train",
            "report",
            "inference",
        },
        {"jax", "numpy", "flax", "ml_collections"},
    ),
    "inference": (
        {"core", "config", "assembly", "data", "evals", "schedules", "train", "report"},
        {"jax", "numpy", "ml_collections"},
    ),
    "benchmarking": ({"core", "losses", "report", "__version__"}, {"jax", "numpy"}),
}
# Heavy packages that only the function that needs them may import, through core.optional.require.
OPTIONAL = {
    "grain",
    "PIL",
    "tokenizers",
    "sklearn",
    "matplotlib",
    "tensorboardX",
    "tqdm",
    "tensorflow_datasets",
    "torch",
    "transformers",
    "sentence_transformers",
    "huggingface_hub",
    "onnxruntime",
    "soundfile",
    "kaldi_native_fbank",
    "fsspec",
    "pyarrow",
    "openpyxl",
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
    room = name.split("/")[0]
    allowed_rooms, allowed_packages = RULES.get(name) or RULES.get(room) or (None, None)
    for imported in imports(path):
        top, *rest = imported.split(".")
        if top == "alignment_jax":
            target = rest[0] if rest else ""
            if allowed_rooms is not None and target not in allowed_rooms | {room}:
                yield f"{name} imports alignment_jax.{'.'.join(rest)}"
        elif top in OPTIONAL:
            yield f"{name} imports {top}; use core.optional.require inside the function"
        elif top == "absl" and room != "cli":
            yield f"{name} imports absl: only the command line knows flags"
        elif top not in sys.stdlib_module_names and allowed_packages is not None and top not in allowed_packages:
            yield f"{name} imports {top}"


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_follow_the_rules(name, path):
    assert list(violations(name, path)) == []


def test_every_room_has_a_rule_or_is_free_on_purpose():
    rooms = {name.split("/")[0] for name, _ in modules()} - {"__init__", "__main__"}
    assert rooms - {rule.split("/")[0] for rule in RULES} == {"cli", "_moved"}


def test_a_forbidden_import_is_found(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import flax\n    from alignment_jax import report\n")
    assert len(list(violations("losses/bad", bad))) == 2


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
