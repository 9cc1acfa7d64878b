"""The step of `shard_map_step.py` under `jax.pmap`, for code bases that still use it.

JAX_NUM_CPU_DEVICES=8 python examples/pmap_step.py
"""

import jax
import optax
import shard_map_step
import toy_latents
from flax import jax_utils


def main(steps=200):
    params, a, b = shard_map_step.start()
    solver = optax.adamw(1e-2)
    devices = jax.device_count()
    a, b = (x.reshape(devices, -1, x.shape[-1]) for x in (a, b))
    state = jax_utils.replicate((params, solver.init(params)))
    step = jax.pmap(shard_map_step.make_step(solver), axis_name=shard_map_step.AXIS, donate_argnums=(0, 1))
    for i in range(steps):
        *state, value = step(*state, a, b)
        value.block_until_ready()  # see shard_map_step.py
        if i % 50 == 0:
            print(f"step {i}: loss {value[0]:.3f} on {devices} devices")
    params = jax_utils.unreplicate(state[0])
    test_a, test_b, _ = toy_latents.make(n=128, seed=1)
    score = toy_latents.recall(*shard_map_step.embed(params, test_a, test_b))
    print(f"R@1 on new pairs: {score:.1f} %")
    return score


if __name__ == "__main__":
    main()
