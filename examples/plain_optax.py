"""A plain optax loop: two matrices, InfoNCE with smoothed targets, noise on the latents (Modest-Align).

python examples/plain_optax.py
"""

import functools

import jax
import jax.numpy as jnp
import optax
import toy_latents

import alignment_jax as aj


def embed(params, a, b):
    return aj.losses.l2_normalize(a @ params["a"]), aj.losses.l2_normalize(b @ params["b"])


def loss_fn(params, a, b, key):
    key_a, key_b = jax.random.split(key)
    a = aj.perturb.gaussian(key_a, a, sigma=0.1, relative=True)
    b = aj.perturb.gaussian(key_b, b, sigma=0.1, relative=True)
    loss_ab, loss_ba = aj.losses.infonce(*embed(params, a, b), temperature=0.07, smoothing=0.1)
    return aj.losses.reduce(loss_ab, loss_ba)


def main(steps=200):
    a, b, _ = toy_latents.make()
    init = jax.nn.initializers.lecun_normal()
    params = {"a": init(jax.random.key(1), (a.shape[1], 16)), "b": init(jax.random.key(2), (b.shape[1], 16))}
    solver = optax.adamw(1e-2)
    opt_state = solver.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state, key):
        value, grad = jax.value_and_grad(loss_fn)(params, jnp.asarray(a), jnp.asarray(b), key)
        updates, opt_state = solver.update(grad, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    for i in range(steps):
        params, opt_state, value = step(params, opt_state, jax.random.key(i))
        if i % 50 == 0:
            print(f"step {i}: loss {value:.3f}")
    test_a, test_b, _ = toy_latents.make(n=128, seed=1)
    score = toy_latents.recall(*embed(params, test_a, test_b))
    print(f"R@1 on new pairs: {score:.1f} %")
    return score


if __name__ == "__main__":
    main()
