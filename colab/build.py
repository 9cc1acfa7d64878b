"""Executes the notebooks' .py files and writes the .ipynb beside them, outputs and pictures included.

pip install -e '.[train,notebooks]'
python colab/build.py [NAME ...]
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def execute(path: pathlib.Path, folder: pathlib.Path, *, timeout: float = 3600):
    """Runs a percent script from top to bottom in `folder` and returns the notebook.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import jupytext
    import nbclient

    notebook = jupytext.read(path)
    nbclient.NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def tidy(notebook, folder: str) -> None:
    """Removes times, standard error and the name of the temporary folder, which change with every run."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for out in cell.outputs:
                if "text" in out:
                    out["text"] = out["text"].replace(folder, "/content")


def main(names: list[str]) -> None:
    import jupytext

    for path in sorted(HERE.glob("[0-9]*.py")):
        if names and path.stem not in names:
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, pathlib.Path(folder))
        tidy(notebook, folder)
        jupytext.write(notebook, path.with_suffix(".ipynb"))
        print(f"{path.stem}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
