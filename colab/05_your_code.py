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
# # The functions in your own code
#
# The losses take arrays and return one value per sample. Use them in a loop with optax, in Flax NNX, under
# `shard_map` and under `pmap`, without the trainer.

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
# Four CPU devices for the last two parts, set before JAX starts. Remove this on a GPU or TPU.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import alignment_jax as aj

rng = np.random.default_rng(0)
code = rng.normal(size=(640, 8))
a = jnp.asarray(code @ rng.normal(size=(8, 48)) + rng.normal(size=(640, 48)), jnp.float32)
b = jnp.asarray(code @ rng.normal(size=(8, 32)) + rng.normal(size=(640, 32)), jnp.float32)
train_a, train_b, test_a, test_b = a[:512], b[:512], a[512:], b[512:]
steps = 30 if SMALL else 200

# %% [markdown]
# ## optax
#
# A loss returns two arrays, one value per sample and direction. `reduce` returns the scalar.

# %%
solver = optax.adamw(1e-2)


def embed(params, a, b):
    return aj.losses.l2_normalize(a @ params["a"]), aj.losses.l2_normalize(b @ params["b"])


def loss_fn(params, a, b, key):
    a = aj.perturb.gaussian(key, a, sigma=0.1, relative=True)
    return aj.losses.reduce(*aj.losses.infonce(*embed(params, a, b), temperature=0.07, smoothing=0.1))


@jax.jit
def train_step(params, opt_state, a, b, key):
    value, grad = jax.value_and_grad(loss_fn)(params, a, b, key)
    updates, opt_state = solver.update(grad, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


init = jax.nn.initializers.lecun_normal()
params = {"a": init(jax.random.key(1), (48, 16)), "b": init(jax.random.key(2), (32, 16))}
opt_state, curve = solver.init(params), []
for i in range(steps):
    params, opt_state, value = train_step(params, opt_state, train_a, train_b, jax.random.key(i))
    curve.append(float(value))

figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
axis.plot(curve, color="black")
axis.set(xlabel="step", ylabel="loss")
plt.show()
aj.metrics.retrieval_recall(*embed(params, test_a, test_b), np.arange(128))

# %% [markdown]
# ## Flax NNX

# %%
from flax import nnx


class Towers(nnx.Module):
    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(48, 16, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)

    def __call__(self, a, b):
        return aj.losses.l2_normalize(self.a(a)), aj.losses.l2_normalize(self.b(b))


model = Towers(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)


@nnx.jit
def nnx_step(model, optimizer, a, b):
    def loss_fn(model):
        return aj.losses.reduce(*aj.losses.infonce(*model(a, b), temperature=0.07))

    value, grad = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grad)
    return value


for _ in range(steps):
    value = nnx_step(model, optimizer, train_a, train_b)
print(f"loss {value:.3f}, rsum {aj.metrics.retrieval_recall(*model(test_a, test_b), np.arange(128))['rsum']:.0f}")

# %% [markdown]
# ## Several devices: `shard_map`
#
# Each device holds its rows. `axis_name=` joins the shards into one batch: the loss covers all rows, and so do the
# gradients after a mean over the axis.

# %%
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


def device_step(params, opt_state, a, b):
    def loss_fn(params):
        loss_ab, loss_ba = aj.losses.infonce(*embed(params, a, b), axis_name="batch", similarity="ring")
        return aj.losses.reduce(loss_ab, loss_ba, axis_name="batch")

    value, grad = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = solver.update(jax.lax.pmean(grad, "batch"), opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


mesh = Mesh(np.asarray(jax.devices()), ("batch",))
sharded = jax.jit(
    jax.shard_map(device_step, mesh=mesh, in_specs=(P(), P(), P("batch"), P("batch")), out_specs=(P(), P(), P()))
)
params = {"a": init(jax.random.key(1), (48, 16)), "b": init(jax.random.key(2), (32, 16))}
state = (params, solver.init(params))
for _ in range(steps):
    *state, value = sharded(*state, train_a, train_b)
    value.block_until_ready()  # CPU devices share threads; not needed on real devices
print(f"{jax.device_count()} devices, loss {value:.3f}")

# %% [markdown]
# ## The same step under `pmap`

# %%
from flax import jax_utils

pmapped = jax.pmap(device_step, axis_name="batch")
shards = [x.reshape(jax.device_count(), -1, x.shape[-1]) for x in (train_a, train_b)]
replicas = jax_utils.replicate((params, solver.init(params)))
for _ in range(steps):
    *replicas, value_of_each = pmapped(*replicas, *shards)
    value_of_each.block_until_ready()
print(
    f"{jax.device_count()} devices, loss {value_of_each[0]:.3f}, equal: {bool(jnp.allclose(value_of_each[0], value))}"
)

# %% [markdown]
# The changes for each method in your own training loop: `docs/your_code/`.
