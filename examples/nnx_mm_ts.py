"""Flax NNX: a temperature for every sample from the size of its cluster (MM-TS).

python examples/nnx_mm_ts.py
"""

import jax.numpy as jnp
import optax
import toy_latents
from flax import nnx

import alignment_jax as aj


class Towers(nnx.Module):
    def __init__(self, dim_a, dim_b, *, rngs):
        self.a = nnx.Linear(dim_a, 16, rngs=rngs)
        self.b = nnx.Linear(dim_b, 16, rngs=rngs)

    def __call__(self, a, b):
        return aj.losses.l2_normalize(self.a(a)), aj.losses.l2_normalize(self.b(b))


def main(steps=200):
    a, b, size = toy_latents.make()
    # Dense clusters get a high temperature, rare ones a low one; five slow waves over the training move them all.
    temperature_of = aj.schedules.mm_ts(
        alpha=0.04, period=steps / 5, min_shift=0.05, max_shift=0.12, min_size=size.min(), max_size=size.max()
    )
    model = Towers(a.shape[1], b.shape[1], rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, step, a, b, size):
        def loss_fn(model):
            loss_ab, loss_ba = aj.losses.infonce(*model(a, b), temperature=temperature_of(step, size))
            return aj.losses.reduce(loss_ab, loss_ba)

        value, grad = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grad)
        return value

    a, b, size = jnp.asarray(a), jnp.asarray(b), jnp.asarray(size)
    for i in range(steps):
        value = train_step(model, optimizer, jnp.asarray(i), a, b, size)
        if i % 50 == 0:
            print(f"step {i}: loss {value:.3f}")
    test_a, test_b, _ = toy_latents.make(n=128, seed=1)
    score = toy_latents.recall(*model(test_a, test_b))
    print(f"R@1 on new pairs: {score:.1f} %")
    return score


if __name__ == "__main__":
    main()
