"""The notebooks run from top to bottom, and the saved outputs belong to their sources."""

import pathlib
import runpy

import pytest

COLAB = pathlib.Path(__file__).resolve().parent.parent.parent / "colab"
SCRIPTS = sorted(COLAB.glob("[0-9]*.py"))

jupytext = pytest.importorskip("jupytext", reason="needs pip install -e '.[notebooks]'")


def identify(path):
    return path.stem


def test_the_readme_links_every_notebook():
    assert len(SCRIPTS) == 6
    page = (COLAB / "README.md").read_text(encoding="utf-8")
    assert [script.stem for script in SCRIPTS if f"[{script.stem}]({script.stem}.ipynb)" not in page] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=identify)
def test_the_saved_notebook_is_the_script_executed(script):
    """Same cells; outputs with figures and without errors."""
    saved, source = jupytext.read(script.with_suffix(".ipynb")), jupytext.read(script)
    assert [cell.source for cell in saved.cells] == [cell.source for cell in source.cells]
    outputs = [output for cell in saved.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert not [cell for cell in saved.cells if cell.cell_type == "code" and cell.execution_count is None]


@pytest.mark.parametrize("script", SCRIPTS, ids=identify)
def test_on_colab_the_package_is_installed_from_a_wheel_or_checkout(script, tmp_path, monkeypatch):
    """From the notebook's folder, because the package is not on PyPI; otherwise an error names both."""
    cell = next(cell.source for cell in jupytext.read(script).cells if "find_spec" in cell.source)
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda command, check: calls.append(command))
    with pytest.raises(FileNotFoundError, match=r"\.whl.*checkout"):
        exec(cell, {})
    package = tmp_path / "alignment_jax" / "alignment_jax" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    exec(cell, {})
    (tmp_path / "alignment_jax-0.1.0-py3-none-any.whl").touch()
    exec(cell, {})
    found = [next(word for word in call if "[train" in word).partition("[")[0] for call in calls]
    assert found == [str(tmp_path / "alignment_jax"), str(tmp_path / "alignment_jax-0.1.0-py3-none-any.whl")]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=identify)
def test_every_cell_runs(script, tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="needs pip install -e '.[notebooks]'")
    monkeypatch.setenv("ALIGNMENT_JAX_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(COLAB.parent))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    notebook = runpy.run_path(str(COLAB / "build.py"))["execute"](script, tmp_path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
