# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart: train, look, search
#
# Two small encoders learn to match pictures and captions, from nothing, on scenes that the package draws itself. 2 to 5
# minutes on two cores. Then you search the pictures with phrases of your own.

# %%
# On Colab: installs the package beside the JAX that is there, which is never replaced. Elsewhere: nothing to do.
# It is not on PyPI: upload a wheel (in a checkout, `pip wheel --no-deps .` makes one), or put the checkout itself here.
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

found = importlib.util.find_spec("alignment_jax")
if found is None or found.origin is None:  # a folder of this name is no package yet
    checkouts = [path.parent.parent for path in pathlib.Path().glob("*/alignment_jax/__init__.py")]
    here = [*pathlib.Path().glob("alignment_jax-*.whl"), *checkouts]
    if not here:
        raise FileNotFoundError("upload alignment_jax-*.whl or a checkout to this folder, then run this cell again")
    keep = [f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib")]
    pathlib.Path("keep.txt").write_text("\n".join(keep))
    package = f"{here[0].resolve()}[train]"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", package, "-c", "keep.txt"], check=True)

SMALL = bool(os.environ.get("ALIGNMENT_JAX_SMALL"))  # a trial run of every cell, in seconds

# %% [markdown]
# ## Train
#
# The same command works in a terminal: `alignment-jax train --config configs/quickstart.py --workdir runs/quickstart`.
# Run the cell twice and it goes on where it was; a finished run is left alone.

# %%
from alignment_jax.cli.main import main

config = "configs/quickstart.py:runlocal" if SMALL else "configs/quickstart.py"
status = main(["train", "--config", config, "--workdir", "runs/quickstart", "--quiet"])
assert status == 0

# %% [markdown]
# R@k: of the held-out captions, how many have their picture among the k that the model ranks first, in %. The last
# column is what guessing would give.
#
# ## Look at the training

# %%
import matplotlib.pyplot as plt

import alignment_jax as aj

history = aj.report.read_metrics("runs/quickstart/metrics.jsonl")
figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
for axis, key, label in ((axes[0], "train/loss", "loss"), (axes[1], "val/rsum", "rsum on val (600 is perfect)")):
    rows = [row for row in history if key in row]
    axis.plot([row["step"] for row in rows], [row[key] for row in rows], color="black")
    axis.set(xlabel="step", ylabel=label)
plt.show()

# %% [markdown]
# ## Search with your own phrases
#
# Both sides live in one space, rows of length one: searching is a matrix product.

# %%
import numpy as np

from alignment_jax.inference.trained_model import open_run, open_source

trained = open_run(pathlib.Path("runs/quickstart").absolute())
_, source = open_source(pathlib.Path("runs/quickstart").absolute(), None)
test = source.splits["test"]
pictures = trained.embed(test).a

phrases = ["a red circle", "a large blue square", "a green triangle and a yellow circle"]
best = np.argsort(-trained.embed_texts(phrases) @ pictures.T, axis=1)[:, :6]
figure, axes = plt.subplots(
    len(phrases), 6, figsize=(9, 1.9 * len(phrases)), gridspec_kw={"hspace": 0.3, "wspace": 0.05}
)
for row, phrase in enumerate(phrases):
    for axis, picture in zip(axes[row], test.a.read(best[row]), strict=True):
        axis.imshow(picture)
        axis.axis("off")
    axes[row][0].set_title(phrase, loc="left")
plt.show()

# %% [markdown]
# ## Next
#
# - `runs/quickstart/report.html` has the numbers, the curves and a gallery on one page.
# - Your own pairs: the notebook `02_your_data`.
# - What the four methods do: `03_methods`.
