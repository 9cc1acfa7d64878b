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
# # The four methods on one page
#
# Each addresses a different weakness of contrastive training on small data: noise on the latents (Modest-Align), a
# temperature for every sample (MM-TS), weights for the two directions (VALS), the order of the samples (BSS). First
# each one alone, then all of them on the same latents, selected by name.

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import alignment_jax as aj

# %% [markdown]
# ## VALS: weight the directions by the variance of their similarities

# %%
init, update = aj.weighting.directional("variance", decay=0.9)
state, weights = init(), []
for step in range(60):
    key_a, key_b = jax.random.split(jax.random.key(step))
    za = aj.losses.l2_normalize(jax.random.normal(key_a, (64, 8)) + 1.0)  # off-center: the vectors form a cone
    zb = aj.losses.l2_normalize(jax.random.normal(key_b, (64, 8)) * jnp.linspace(0.2, 2.0, 8))
    statistics = aj.weighting.direction_statistics(za, zb, temperature=0.07)
    (w_ab, w_ba), state = update(statistics, state)
    weights.append((float(w_ab), float(w_ba)))

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot([w for w, _ in weights], color="black", label="a to b")
axis.plot([w for _, w in weights], color="black", linestyle="--", label="b to a")
axis.set(xlabel="step", ylabel="weight", title="The two weights always sum to 2")
axis.legend()
plt.show()

# %% [markdown]
# ## Modest-Align: targets that are not over-confident
#
# With smoothing α the target probability of the right partner is 1 - α (1 - 1/n) instead of 1.

# %%
similarity = np.linspace(-1, 1, 200)
z = jnp.eye(8)
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for smoothing, style in ((0.0, "-"), (0.1, "--"), (0.3, ":")):
    losses = []
    for s in similarity:
        zb = s * z + jnp.sqrt(1 - s**2) * jnp.roll(z, 1, axis=1)
        losses.append(float(aj.losses.infonce(z, zb, temperature=0.2, smoothing=smoothing)[0][0]))
    axis.plot(similarity, losses, color="black", linestyle=style, label=f"α = {smoothing}")
axis.set(xlabel="similarity of the right pair", ylabel="loss", title="Smoothing stops rewarding ever larger similarity")
axis.legend()
plt.show()

# %% [markdown]
# ## MM-TS: a temperature for every sample and step

# %%
temperature = aj.schedules.mm_ts(alpha=0.08, period=200, min_shift=0.05, max_shift=0.20, min_size=1, max_size=100)
steps = np.arange(600)
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for size, style in ((1, ":"), (30, "--"), (100, "-")):
    values = [float(temperature(step, jnp.array([float(size)]))[0]) for step in steps[::10]]
    axis.plot(steps[::10], values, color="black", linestyle=style, label=f"cluster of {size}")
axis.set(xlabel="step", ylabel="temperature", title="Rare samples get a low temperature, frequent ones a high one")
axis.legend()
plt.show()

# %% [markdown]
# ## BSS: balanced samples first

# %%
rng = np.random.default_rng(0)
agreement, loss = rng.beta(4, 2, size=400), rng.exponential(size=400)
scores = aj.sampling.balance_score(agreement, loss)
shown = [len(aj.sampling.curriculum_order(scores, epoch=epoch, seed=0, epochs=40)) for epoch in range(60)]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
points = axes[0].scatter(agreement, loss, c=scores, cmap="cividis", s=8)
axes[0].set(xlabel="agreement of the modalities", ylabel="loss", title="Balance score: dark is shown first")
figure.colorbar(points, ax=axes[0])
axes[1].plot(shown, color="black")
axes[1].set(xlabel="epoch", ylabel="samples shown", title="The curriculum grows")
plt.show()

# %% [markdown]
# ## All of them on the same latents
#
# Change `METHODS`; join several with `+`. The latents are synthetic: many kinds with very unequal frequencies.

# %%
METHODS = ["baseline", "vals", "modest_align", "mm_ts", "bss", "vals+mm_ts", "all"]

from alignment_jax.cli.main import main

n, kinds = (160, 8) if SMALL else (600, 20)
rng = np.random.default_rng(0)
kind = rng.choice(kinds, size=n, p=(p := 1 / np.arange(1, kinds + 1)) / p.sum())
code = rng.normal(size=(kinds, 16))[kind] + 0.7 * rng.normal(size=(n, 16))
owner = np.repeat(np.arange(n), 2)
to_a, to_b = rng.normal(size=(16, 128)), rng.normal(size=(16, 96))
np.savez(
    "latents.npz",
    image=(code @ to_a + 9.0 * rng.normal(size=(n, 128))).astype(np.float32),
    text=((code[owner] + 0.3 * rng.normal(size=(2 * n, 16))) @ to_b + 9.0 * rng.normal(size=(2 * n, 96))).astype(
        np.float32
    ),
    text_to_image=owner,
    split=np.array((["train"] * 3 + ["val", "test"]) * (n // 5)),
)

# %%
import contextlib
import io
import json

found = {}
for method in METHODS[:2] if SMALL else METHODS:
    workdir = f"runs/methods/{method}"
    config = f"configs/flickr8k_frozen.py:{'runlocal,' if SMALL else ''}data=embeddings:latents.npz,method={method}"
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", "--config", config, "--workdir", workdir, "--quiet"]) == 0
    found[method] = json.loads(pathlib.Path(workdir, "results.json").read_text())["test"]["rsum"]

figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
axis.barh(list(found), list(found.values()), color="0.6", edgecolor="black")
axis.invert_yaxis()
axis.set(xlabel="rsum on test (600 is perfect)", title="One seed: differences of a few points mean nothing")
plt.show()

# %% [markdown]
# One seed cannot show which method is best. `alignment-jax compare` trains every method over several seeds and
# training-set sizes and prints differences with intervals.
