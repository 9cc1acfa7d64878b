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
# # Fine-tune a pretrained image-text model
#
# Fine-tuning gains on new data and forgets some of the old. This notebook compares LoRA with training all weights, on
# the new data and on a control set. The pages about the settings: `docs/finetune.md`, `docs/pretrained.md`.
#
# By default the model is tiny and is pretrained here; all cells take 3 to 8 minutes on two cores. With
# `DOWNLOAD = True` it is CLIP ViT-B/32 of the Hugging Face hub (600 MB); choose a GPU for it.

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
    package = f"{here[0].resolve()}[train,pretrained]"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", package, "-c", "keep.txt"], check=True)

SMALL = bool(os.environ.get("ALIGNMENT_JAX_SMALL"))  # a quick test of every cell
small = "runlocal," if SMALL else ""
DOWNLOAD = False  # True: CLIP ViT-B/32 in place of the tiny model

# %% [markdown]
# ## Old and new pairs
#
# Drawn scenes with two captions each. Old ones are red, blue, green and yellow, new ones purple, orange, pink and cyan.
# Replace `new/pairs.csv` by your own pairs (`02_your_data` describes the file), and `old/pairs.csv` by pairs that the
# model must still match after fine-tuning.

# %%
import csv

from PIL import Image

from alignment_jax import data


def write_pairs(folder, colors, *, train):
    """Draws scenes, and writes those with one of the colors; returns the file."""
    folder.mkdir(exist_ok=True)
    options = f"size={224 if DOWNLOAD else 32},captions=2,objects=1,zipf=0"
    source = data.load(f"synthetic:train={train},val=200,test=200,{options}")
    with open(folder / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption", "split"])
        for split, part in source.splits.items():
            captions = data.caption_texts(part)
            for i, name in enumerate(part.ids):
                if source.label_names[part.label[i]].split()[0] in colors:
                    Image.fromarray(part.a.read([i])[0]).save(folder / f"{name}.png")
                    for caption in part.b_of_a(i):
                        table.writerow([f"{name}.png", captions[caption], split])
    return folder / "pairs.csv"


old = write_pairs(pathlib.Path("old"), ("red", "blue", "green", "yellow"), train=200 if SMALL else 3000)
new = write_pairs(pathlib.Path("new"), ("purple", "orange", "pink", "cyan"), train=200 if SMALL else 1000)

# %% [markdown]
# ## The pretrained model
#
# A model is a folder: settings, weights, tokenizer and image preprocessing. The tiny one starts with random weights
# and learns the old pairs. `export --format transformers` writes the result as a folder that transformers loads too.

# %%
import re

from alignment_jax.cli.main import main
from alignment_jax.models import pretrained

if DOWNLOAD:
    import huggingface_hub

    model = huggingface_hub.snapshot_download(
        "openai/clip-vit-base-patch32",
        revision="refs/pr/15",  # main has only pickled weights, which are not read
        allow_patterns=["*.json", "*.safetensors"],
        local_dir="clip",
    )
else:
    words = set()
    for file in (old, new):
        for part in data.load(f"pairs:{file}").splits.values():
            words.update(re.findall(r"\w+", " ".join(data.caption_texts(part))))
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    settings = {
        "model_type": "clip",
        "projection_dim": 32,
        "text_config": {**sizes, "vocab_size": 4 + len(words), "max_position_embeddings": 24, "eos_token_id": 3},
        "vision_config": {**sizes, "image_size": 32, "patch_size": 8},
    }
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    files = {**pretrained.word_tokenizer(sorted(words)), "preprocessor_config": images}
    random = pretrained.random_folder("random", settings, files=files)
    config = f"configs/finetune.py:{small}image=hf:{random},text=hf:{random},tune=all,data=pairs:{old}"
    changes = ["--config.optimizer.learning_rate=1.5e-3", "--config.optimizer.layer_decay=1.0"]
    changes += [] if SMALL else ["--config.train.duration=16 epochs", "--config.eval.interval=4 epochs"]
    assert main(["train", "--config", config, "--workdir", "runs/pretraining", "--quiet", *changes]) == 0
    if not pathlib.Path("pretrained").exists():
        export = ["--format", "transformers", "--out", "pretrained"]
        assert main(["export", "--workdir", "runs/pretraining", *export]) == 0
    model = "pretrained/checkpoint_ab"

# %% [markdown]
# ## Will it fit?
#
# `--plan` compiles the training step and prints its memory without training. Give the memory of your GPU.

# %%
config = f"configs/finetune.py:{small}image=hf:{model},text=hf:{model},data=pairs:{new}"
if not SMALL:
    assert main(["train", "--config", f"{config},tune=lora:8", "--plan", "--memory", "16GiB"]) == 0

# %% [markdown]
# ## Fine-tune
#
# `tune=lora:8` trains adapters of rank 8 on a frozen model, `tune=all` trains every weight. `eval.control` measures the
# old pairs before and after. The config chooses learning rates for real models; the tiny one needs larger ones.

# %%
import contextlib
import io
import json

changes = ["--config.train.interpolate=none", f"--config.eval.control=pairs:{old}"]
if not SMALL and not DOWNLOAD:
    changes += ["--config.train.duration=16 epochs", "--config.eval.interval=4 epochs"]
rates = {} if DOWNLOAD else {"lora:8": 3e-3, "all": 1e-3}
print(f"{'rsum (600 is perfect)':24}{'before':>10}{'after':>10}")
for tune in ("lora:8", "all"):
    workdir = f"runs/{tune.partition(':')[0]}"
    rate = [f"--config.optimizer.learning_rate={rates[tune]}"] if tune in rates else []
    command = ["train", "--config", f"{config},tune={tune}", "--workdir", workdir, "--quiet", *changes, *rate]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(command) == 0
    found = json.loads(pathlib.Path(workdir, "before_and_after.json").read_text())
    for split, name in (("test", "new pairs"), ("control", "old pairs")):
        before, after = (found[split][when]["rsum"] for when in ("before", "after"))
        print(f"{tune + ', ' + name:24}{before:10.0f}{after:10.0f}")

# %% [markdown]
# ## Between both models
#
# The average of the weights before and after fine-tuning often keeps most of the gain and of the old skill (WiSE-FT).
# The cell below exports both runs, loads the folders as plain functions and parameters, and measures five averages.
# The circle is the share that is best on val of the new pairs. `train.interpolate=val`, the default of this config,
# makes this choice after training. It ignores the old pairs: where they count, choose a smaller share by these curves.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import alignment_jax as aj

module, variables, preprocess = pretrained.load(model)
start = variables["params"]
image_features = jax.jit(lambda params, x: module.apply({"params": params}, x, method="encode_image"))
text_features = jax.jit(lambda params, x: module.apply({"params": params}, **x, method="encode_text"))


def inputs_of(file, split):
    part = data.load(f"pairs:{file}").splits[split]
    texts = preprocess.texts(data.caption_texts(part))
    return preprocess.images(list(part.a.read(range(len(part.a))))), texts, part.b_to_a


def rsum(params, inputs):
    images, texts, owner = inputs
    a, b = image_features(params, images), text_features(params, texts)
    return aj.metrics.retrieval_recall(aj.losses.l2_normalize(a), aj.losses.l2_normalize(b), owner)["rsum"]


shares = np.linspace(0, 1, 5)
val, *measured = inputs_of(new, "val"), inputs_of(new, "test"), inputs_of(old, "test")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
for axis, tune in zip(axes, ("lora", "all"), strict=True):
    if not pathlib.Path(f"tuned_{tune}").exists():
        export = ["--format", "transformers", "--out", f"tuned_{tune}"]
        assert main(["export", "--workdir", f"runs/{tune}", *export]) == 0
    tuned = pretrained.load(f"tuned_{tune}/checkpoint_ab").variables["params"]
    averages = [aj.models.tuning.interpolate(start, tuned, alpha=share) for share in shares]
    best = int(np.argmax([rsum(params, val) for params in averages]))
    for inputs, name, style in zip(measured, ("new pairs", "old pairs"), ("-", "--"), strict=True):
        curve = [rsum(params, inputs) for params in averages]
        axis.plot(shares, curve, style, color="black", label=name)
        axis.plot(shares[best], curve[best], "o", color="black", fillstyle="none", markersize=9)
    axis.set(xlabel="share of the way to the tuned weights", title=f"tune={tune}", xticks=shares)
axes[0].set_ylabel("rsum on test")
axes[0].legend()
plt.show()

# %% [markdown]
# These numbers say how to measure, not which `tune` is better: a tiny model forgets and learns unlike yours.
#
# ## Search with your own words
#
# `alignment_jax.load` opens a run. Left: new pictures that the pretrained model ranks first. Right: the model tuned
# with LoRA.

# %%
phrases = ["a large pink heart in the middle", "a small cyan ring on the left", "a big orange cross at the top"]
test = data.load(f"pairs:{new}").splits["test"]
aligner = aj.load("runs/lora")
after = aligner.embed_texts(phrases) @ aligner.embed(test).a.T
words = preprocess.texts(phrases)
pictures = aj.losses.l2_normalize(image_features(start, measured[0][0]))
before = np.asarray(text_features(start, words) @ pictures.T)

figure, axes = plt.subplots(len(phrases), 9, figsize=(10, 4.2), gridspec_kw={"hspace": 0.35, "wspace": 0.05})
for axis in axes.flat:
    axis.axis("off")
for row, phrase in enumerate(phrases):
    for scores, first in ((before, 0), (after, 5)):
        best = np.argsort(-scores[row])[:4]
        for column, picture in enumerate(test.a.read(best), start=first):
            axes[row][column].imshow(picture)
    axes[row][0].set_title(phrase, loc="left", fontsize=9)
plt.show()

# %% [markdown]
# ## Next
#
# - `tuned_lora/checkpoint_ab`: for transformers, or for `pretrained.load` in your own code (`docs/pretrained.md`).
# - All settings, memory and learning rates: `docs/finetune.md`.
# - Few pairs and no GPU: `02_your_data` freezes the encoders.
