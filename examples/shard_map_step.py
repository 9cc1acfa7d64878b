"""Several devices under `jax.shard_map`: the batch is sharded, the loss is that of the whole batch.

    JAX_NUM_CPU_DEVICES=8 python examples/shard_map_step.py

The rule that keeps the gradients right wherever this runs: the differentiated function returns the *global* loss (the
losses and `reduce` do with `axis_name=`), and the gradients are averaged over the axis afterwards.
"""

import functools

import jax
import numpy as np
import optax
import toy_latents
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import alignment_jax as aj

AXIS = "batch"


def embed(params, a, b):
    return aj.losses.l2_normalize(a @ params["a"]), aj.losses.l2_normalize(b @ params["b"])


def make_step(solver, similarity="ring"):
    """The step of one device; `pmap_step.py` runs the very same one."""

    def step(params, opt_state, a, b):
        def loss_fn(params):
            # "ring" passes the other side round the devices: no n x n matrix and no copy of the whole batch anywhere.
            loss_ab, loss_ba = aj.losses.infonce(*embed(params, a, b), axis_name=AXIS, similarity=similarity)
            return aj.losses.reduce(loss_ab, loss_ba, axis_name=AXIS)

        value, grad = jax.value_and_grad(loss_fn)(params)
        grad = jax.lax.pmean(grad, AXIS)
        updates, opt_state = solver.update(grad, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    return step


def start():
    a, b, _ = toy_latents.make()
    lecun = jax.nn.initializers.lecun_normal()
    return {"a": lecun(jax.random.key(1), (a.shape[1], 16)), "b": lecun(jax.random.key(2), (b.shape[1], 16))}, a, b


def main(steps=200):
    params, a, b = start()
    solver = optax.adamw(1e-2)
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    params, a, b = jax.device_put(params, replicated), jax.device_put(a, sharded), jax.device_put(b, sharded)
    opt_state = jax.device_put(solver.init(params), replicated)
    # check_vma=True, the default, differentiates replicated parameters by itself: the pmean then changes nothing.
    mapped = jax.shard_map(
        make_step(solver), mesh=mesh, in_specs=(P(), P(), P(AXIS), P(AXIS)), out_specs=(P(), P(), P())
    )
    step = functools.partial(jax.jit, donate_argnums=(0, 1))(mapped)
    for i in range(steps):
        params, opt_state, value = step(params, opt_state, a, b)
        # Devices made of one CPU share its threads: with many steps under way, one step's exchange can keep the threads
        # that another's needs. Real devices need no waiting.
        value.block_until_ready()
        if i % 50 == 0:
            print(f"step {i}: loss {value:.3f} on {len(jax.devices())} devices")
    test_a, test_b, _ = toy_latents.make(n=128, seed=1)
    score = toy_latents.recall(*embed(params, test_a, test_b))
    print(f"R@1 on new pairs: {score:.1f} %")
    return score


if __name__ == "__main__":
    main()
