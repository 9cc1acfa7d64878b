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
# # Your own pairs: upload, freeze, train, report
#
# With a few hundred pairs, encode both sides once with pretrained encoders and train two small maps on top. This takes
# minutes on a CPU.

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
    package = f"{here[0].resolve()}[train,encoders]"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", package, "-c", "keep.txt"], check=True)

SMALL = bool(os.environ.get("ALIGNMENT_JAX_SMALL"))  # a quick test of every cell

# %% [markdown]
# ## The pairs
#
# Upload a zip of a folder with the images and `pairs.csv`, columns `image` (paths relative to the file) and `caption`.
# Without an upload the notebook writes an example: drawn scenes with captions.

# %%
import csv
import zipfile

from PIL import Image

from alignment_jax import data

UPLOAD = False  # set to True on Colab to choose a .zip of your own

folder = pathlib.Path("pairs")
folder.mkdir(exist_ok=True)
if UPLOAD:
    from google.colab import files

    for name in files.upload():
        with zipfile.ZipFile(name) as archive:
            archive.extractall(folder)
else:
    counts = "train=96,val=24,test=24" if SMALL else "train=600,val=100,test=100"
    source = data.load(f"synthetic:{counts},size=48,captions=2")
    with open(folder / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption", "split"])
        for split, part in source.splits.items():
            captions = data.caption_texts(part)
            for i, name in enumerate(part.ids):
                file_name = f"{name.replace('/', '_')}.png"
                Image.fromarray(part.a.read([i])[0]).save(folder / file_name)
                for caption in part.b_of_a(i):
                    table.writerow([file_name, captions[caption], split])

# %% [markdown]
# ## Look before you train
#
# The check names every problem by file and row: missing files, empty captions, duplicates across splits.

# %%
from alignment_jax.cli.main import main

assert main(["data", "--data", f"pairs:{folder}/pairs.csv"]) == 0

# %% [markdown]
# ## Freeze the encoders
#
# `DOWNLOAD = True` downloads DINOv2 and MiniLM from the Hugging Face hub. Without a network, use the two encoders of
# a few lines below. They suffice for drawn scenes and show that any function can be an encoder.

# %%
import itertools
import re
import zlib

import numpy as np

from alignment_jax import extract

DOWNLOAD = False
latents = pathlib.Path("latents.npz")

if DOWNLOAD:
    encoders = [
        "--image_encoder",
        "hf:facebook/dinov2-small",
        "--text_encoder",
        "st:sentence-transformers/all-MiniLM-L6-v2",
    ]
    assert main(["extract", "--data", f"pairs:{folder}/pairs.csv", *encoders, "--out", str(latents), "--download"]) == 0
elif not latents.exists():

    def grid(images):
        small = [Image.fromarray(image).resize((12, 12)) for image in images]
        return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])

    def words(texts):
        counts = np.zeros((len(texts), 512), np.float32)
        for row, text in enumerate(texts):
            found = re.findall(r"\w+", text.lower())
            for word in [*found, *map(" ".join, itertools.pairwise(found))]:
                counts[row, zlib.crc32(word.encode()) % 512] += 1
        return np.sqrt(counts)

    pairs = data.load(f"pairs:{folder}/pairs.csv")
    encoders = (extract.Encoder(grid, {"name": "12 x 12 pixels"}), extract.Encoder(words, {"name": "words"}))
    extract.extract(pairs, *encoders, latents, extract.ExtractSettings())

# %% [markdown]
# ## Train
#
# Without `method=` the config is the recommended recipe for few pairs.

# %%
small = "runlocal," if SMALL else ""
config = f"configs/flickr8k_frozen.py:{small}data=embeddings:{latents}"
assert main(["train", "--config", config, "--workdir", "runs/mine", "--quiet"]) == 0

# %% [markdown]
# ## Look at the result
#
# `runs/mine/report.html` has everything on one page (download it and open it in a browser). Below: captions of the test
# split and the images ranked first; a thick frame marks the right one.

# %%
import matplotlib.pyplot as plt

from alignment_jax.inference.trained_model import open_run, open_source

workdir = pathlib.Path("runs/mine").absolute()
_, trained_on = open_source(workdir, None)
embedded = open_run(workdir).embed(trained_on.splits["test"])
test = data.load(f"pairs:{folder}/pairs.csv").splits["test"]
captions = data.caption_texts(test)
queries = np.random.default_rng(0).choice(len(captions), 5, replace=False)
best = np.argsort(-embedded.b[queries] @ embedded.a.T, axis=1)[:, :5]
figure, axes = plt.subplots(5, 5, figsize=(8, 9), gridspec_kw={"hspace": 0.3, "wspace": 0.05})
for row, query in enumerate(queries):
    for axis, image in zip(axes[row], best[row], strict=True):
        axis.imshow(test.a.read([image])[0])
        axis.set(xticks=[], yticks=[])
        right = image == test.b_to_a[query]
        for side in axis.spines.values():
            side.set_linewidth(4 if right else 0.5)
    axes[row][0].set_title(captions[query], loc="left", fontsize=9)
plt.show()

# %% [markdown]
# ## Which method helps on your data?
#
# `alignment-jax compare` trains several methods over seeds and training-set sizes and shows which differences are
# larger than chance.
