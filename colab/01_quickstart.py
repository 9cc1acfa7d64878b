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
# Train two small encoders from scratch to match images and captions of drawn scenes: 2 to 5 minutes on two cores. Then
# search the images with your own phrases.

# %%
# Colab only: installs the package and keeps Colab's JAX. The package is not on PyPI: upload a wheel, made in a checkout
# by `pip wheel --no-deps .`, or the checkout itself.
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

found = importlib.util.find_spec("alignment_jax")
if found is None or found.origin is None:  # a folder of this name is not a package
    checkouts = [path.parent.parent for path in pathlib.Path().glob("*/alignment_jax/__init__.py")]
    here = [*pathlib.Path().glob("alignment_jax-*.whl"), *checkouts]
    if not here:
        raise FileNotFoundError("upload alignment_jax-*.whl or a checkout to this folder, then run this cell again")
    keep = [f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib")]
    pathlib.Path("keep.txt").write_text("\n".join(keep))
    package = f"{here[0].resolve()}[train]"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", package, "-c", "keep.txt"], check=True)

SMALL = bool(os.environ.get("ALIGNMENT_JAX_SMALL"))  # a quick test of every cell

# %% [markdown]
# ## Train
#
# In a terminal: `alignment-jax train --config configs/quickstart.py --workdir runs/quickstart`. Run it again to
# resume an interrupted run; a finished run is not changed.

# %%
from alignment_jax.cli.main import main

config = "configs/quickstart.py:runlocal" if SMALL else "configs/quickstart.py"
status = main(["train", "--config", config, "--workdir", "runs/quickstart", "--quiet"])
assert status == 0

# %% [markdown]
# R@k: the share of held-out captions, in %, whose image is among the k ranked first. The last column is chance level.
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
# Images and texts have embeddings of length one in the same space, so a search is one matrix product.

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
# - `runs/quickstart/report.html`: numbers, curves and a gallery on one page.
# - Your own pairs: `02_your_data`.
# - The four methods: `03_methods`.
