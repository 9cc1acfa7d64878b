"""A function transformed into init and apply, as in Haiku: max-margin loss with a margin for every sample (MM-TS).

    python examples/haiku_max_margin.py

With Haiku itself, `init, apply = hk.without_apply_rng(hk.transform(towers))` and `hk.Linear` take the place of the two
functions below; nothing else changes, because the losses see arrays only.
"""

import jax
import jax.numpy as jnp
import optax
import toy_latents

import alignment_jax as aj


def init(key, a, b):
    lecun = jax.nn.initializers.lecun_normal()
    key_a, key_b = jax.random.split(key)
    return {"a": lecun(key_a, (a.shape[1], 16)), "b": lecun(key_b, (b.shape[1], 16))}


def apply(params, a, b):
    return aj.losses.l2_normalize(a @ params["a"]), aj.losses.l2_normalize(b @ params["b"])


def train(init, apply, steps):
    """The same loop whichever library made the two functions."""
    a, b, size = map(jnp.asarray, toy_latents.make())
    margin_of = aj.schedules.mm_ts(
        alpha=0.1, period=steps / 5, min_shift=0.17, max_shift=0.30, min_size=size.min(), max_size=size.max()
    )
    params = init(jax.random.key(0), a, b)
    solver = optax.adamw(1e-2)
    opt_state = solver.init(params)

    @jax.jit
    def step(params, opt_state, number):
        def loss_fn(params):
            return aj.losses.reduce(*aj.losses.max_margin(*apply(params, a, b), margin=margin_of(number, size)))

        value, grad = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = solver.update(grad, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    for i in range(steps):
        params, opt_state, value = step(params, opt_state, i)
        if i % 50 == 0:
            print(f"step {i}: loss {value:.4f}")
    test_a, test_b, _ = toy_latents.make(n=128, seed=1)
    return toy_latents.recall(*apply(params, jnp.asarray(test_a), jnp.asarray(test_b)))


def main(steps=200):
    score = train(init, apply, steps)
    print(f"R@1 on new pairs: {score:.1f} %")
    return score


if __name__ == "__main__":
    main()
