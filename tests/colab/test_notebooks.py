"""The notebooks run from top to bottom in small form, and what is saved beside them is what they say."""

import pathlib
import runpy

import pytest

COLAB = pathlib.Path(__file__).resolve().parent.parent.parent / "colab"
SCRIPTS = sorted(COLAB.glob("[0-9]*.py"))

jupytext = pytest.importorskip("jupytext", reason="needs pip install -e '.[notebooks]'")


def identify(path):
    return path.stem


def test_there_are_five():
    assert len(SCRIPTS) == 5


@pytest.mark.parametrize("script", SCRIPTS, ids=identify)
def test_the_saved_notebook_is_the_script_executed(script):
    """Same cells; outputs with pictures and without errors, so that it reads well unexecuted."""
    saved, source = jupytext.read(script.with_suffix(".ipynb")), jupytext.read(script)
    assert [cell.source for cell in saved.cells] == [cell.source for cell in source.cells]
    outputs = [output for cell in saved.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert not [cell for cell in saved.cells if cell.cell_type == "code" and cell.execution_count is None]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=identify)
def test_every_cell_runs(script, tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="needs pip install -e '.[notebooks]'")
    monkeypatch.setenv("ALIGNMENT_JAX_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(COLAB.parent))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    notebook = runpy.run_path(str(COLAB / "build.py"))["execute"](script, tmp_path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
