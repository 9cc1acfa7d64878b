"""The package never unpickles, evaluates or imports content of data or of a checkpoint."""

import ast
import pathlib
import pickle

import numpy as np
import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "alignment_jax"
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def violations(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {function.id}(...)"
            if isinstance(function, ast.Attribute) and function.attr == "load":
                options = {keyword.arg: keyword.value for keyword in node.keywords}
                owner = function.value.id if isinstance(function.value, ast.Name) else ""
                if owner in ("np", "numpy") and not _is_false(options.get("allow_pickle")):
                    yield f"line {node.lineno}: numpy.load without allow_pickle=False"
                if owner == "torch":
                    yield f"line {node.lineno}: torch.load"
            options = {keyword.arg: keyword.value for keyword in node.keywords}
            for name in ("trust_remote_code", "shell"):
                if name in options and not _is_false(options[name]):
                    yield f"line {node.lineno}: {name}"


def _is_false(node):
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.slow
def test_no_file_of_the_package_can_execute_its_input():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if problems := list(violations(ast.parse(path.read_text(encoding="utf-8")))):
            found[path.relative_to(PACKAGE).as_posix()] = problems
    assert found == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import load", "eval('1')", "np.load(p)", "np.load(p, allow_pickle=True)",
     "torch.load(p)", "subprocess.run(c, shell=True)"],
)  # fmt: skip
def test_the_search_finds_forbidden_calls(source):
    assert len(list(violations(ast.parse(source)))) == 1


class _Trap:
    """Unpickling must never call this."""

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(_Trap.target),))


@pytest.mark.parametrize("kind", ["embeddings", "features"])
def test_a_pickle_in_an_archive_is_refused_and_not_run(kind, tmp_path):
    from alignment_jax import data
    from alignment_jax.core.errors import DataError

    _Trap.target = str(tmp_path / "sprung")
    trap = np.array([_Trap()], object)
    np.savez(tmp_path / "x.npz", image=trap, text=trap, a=trap, b=trap, label=trap)
    (tmp_path / "y.npz").write_bytes(pickle.dumps(_Trap()))
    for name in ("x.npz", "y.npz"):
        with pytest.raises(DataError, match="pickle"):
            data.load(f"{kind}:{tmp_path / name}")
    assert not (tmp_path / "sprung").exists()
