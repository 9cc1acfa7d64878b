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
# # BSS: two modalities, and the order of the samples
#
# A classifier of audio and images. One modality is easier than the other, and a plain classifier relies on it. BSS
# measures how balanced the modalities of every sample are and uses balanced samples first.
#
# The notebook generates recordings (a noisy tone) and images (a bar). For your own files, replace `my_av.csv` by a
# table with the columns `audio`, `image`, `label` and, optionally, `split`.

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

# %%
import csv

import matplotlib.pyplot as plt
import numpy as np
import soundfile
from PIL import Image

rng = np.random.default_rng(0)
folder = pathlib.Path("my_av")
folder.mkdir(exist_ok=True)
classes = [f"class {k}" for k in range(6)]
count = 120 if SMALL else 900
with open(folder / "my_av.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["audio", "image", "label", "split"])
    for i in range(count):
        k = i % 6
        pitch = 250 * (k + 1) * np.exp(0.05 * rng.normal())
        tone = np.sin(2 * np.pi * pitch * np.arange(4000) / 8000) + 2.0 * rng.normal(size=4000)
        soundfile.write(folder / f"{i}.wav", 0.1 * tone, 8000)
        pixels = rng.integers(0, 120, (28, 28), dtype=np.uint8)
        pixels[4 * k + 1 : 4 * k + 5] += 100
        Image.fromarray(pixels).save(folder / f"{i}.png")
        split = ("train", "train", "train", "val", "test")[(i // 6) % 5]
        table.writerow([f"{i}.wav", f"{i}.png", classes[k], split])

# %% [markdown]
# ## Check the data

# %%
from alignment_jax.cli.main import main

assert main(["data", "--data", f"av:{folder}/my_av.csv"]) == 0

# %% [markdown]
# ## Train with a shuffled order and with BSS

# %%
import contextlib
import io
import json

import alignment_jax as aj

small = "runlocal," if SMALL else ""
results, history = {}, {}
for method in ("vanilla", "probabilistic"):
    workdir = f"runs/bss/{method}"
    config = f"configs/av_digits_bss.py:{small}data=av:{folder}/my_av.csv,method={method}"
    with contextlib.redirect_stdout(io.StringIO()):
        shorter = ["--config.train.duration=6 epochs", "--config.eval.interval=1 epochs"] if not SMALL else []
        assert main(["train", "--config", config, "--workdir", workdir, "--quiet", *shorter]) == 0
    results[method] = json.loads(pathlib.Path(workdir, "results.json").read_text())["test"]
    history[method] = aj.report.read_metrics(f"{workdir}/metrics.jsonl")

names = {"accuracy": "both", "accuracy_a": "audio alone", "accuracy_b": "image alone"}
print(f"{'test accuracy, %':18}" + "".join(f"{label:>14}" for label in names.values()))
for method, found in results.items():
    print(f"{method:18}" + "".join(f"{found[key]:14.1f}" for key in names))

# %% [markdown]
# ## Each modality over the training

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for axis, (method, rows) in zip(axes, history.items(), strict=True):
    rows = [row for row in rows if "val/accuracy" in row]
    for (key, label), style in zip(names.items(), ("-", "--", ":"), strict=True):
        axis.plot([r["epoch"] for r in rows], [r[f"val/{key}"] for r in rows], color="black", ls=style, label=label)
    axis.set(xlabel="epoch", title=method)
axes[0].set_ylabel("accuracy on val, %")
axes[0].legend()
plt.show()

# %% [markdown]
# One seed shows how BSS works, not whether it helps. Five seeds on real digits: `docs/results.md`.
