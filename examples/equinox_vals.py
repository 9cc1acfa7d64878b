"""Equinox: the two directions weighted by how variable their similarities are (VALS).

pip install equinox
python examples/equinox_vals.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import toy_latents

import alignment_jax as aj

init_weights, update_weights = aj.weighting.directional("variance", decay=0.9)


class Towers(eqx.Module):
    a: eqx.nn.Linear
    b: eqx.nn.Linear

    def __init__(self, dim_a, dim_b, *, key):
        key_a, key_b = jax.random.split(key)
        self.a = eqx.nn.Linear(dim_a, 16, key=key_a)
        self.b = eqx.nn.Linear(dim_b, 16, key=key_b)

    def __call__(self, a, b):
        return aj.losses.l2_normalize(jax.vmap(self.a)(a)), aj.losses.l2_normalize(jax.vmap(self.b)(b))


def main(steps=200):
    a, b, _ = toy_latents.make()
    model = Towers(a.shape[1], b.shape[1], key=jax.random.key(0))
    solver = optax.adamw(1e-2)
    opt_state = solver.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, opt_state, weight_state, a, b):
        def loss_fn(model):
            za, zb = model(a, b)
            # Loss and statistics come from one sweep over the similarities; no gradient passes through the weights.
            loss_ab, loss_ba, statistics = aj.losses.infonce_with_statistics(za, zb, temperature=0.07)
            weights, state = update_weights(statistics, weight_state)
            return aj.losses.reduce(loss_ab, loss_ba, weights=weights), (weights, state)

        (value, (weights, weight_state)), grad = eqx.filter_value_and_grad(loss_fn, has_aux=True)(model)
        updates, opt_state = solver.update(grad, opt_state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), opt_state, weight_state, value, weights

    weight_state = init_weights()
    a, b = jnp.asarray(a), jnp.asarray(b)
    for i in range(steps):
        model, opt_state, weight_state, value, (w_ab, w_ba) = step(model, opt_state, weight_state, a, b)
        if i % 50 == 0:
            print(f"step {i}: loss {value:.3f}, weights {w_ab:.3f} and {w_ba:.3f}")
    test_a, test_b, _ = toy_latents.make(n=128, seed=1)
    score = toy_latents.recall(*model(test_a, test_b))
    print(f"R@1 on new pairs: {score:.1f} %")
    return score


if __name__ == "__main__":
    main()
