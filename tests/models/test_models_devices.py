"""One, two, four and eight devices take the same training step: dropout, batch norm, padding and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alignment_jax.models import build_model

pytestmark = pytest.mark.costly

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N = 16
WHERE = np.arange(N) < 11
INPUTS = {
    "latents": (RNG.normal(size=(N, 12)).astype(np.float32), RNG.normal(size=(N, 10)).astype(np.float32)),
    "images and texts": (
        RNG.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8),
        np.where(np.arange(5) < RNG.integers(1, 6, (N, 1)), RNG.integers(1, 10, (N, 5)), 0).astype(np.int32),
    ),
}
CASES = {
    "adapters": (
        "latents",
        {"name": "adapters", "dim": 6, "blocks_a": 2, "blocks_b": 1, "expansion": 2, "dropout": 0.5},
    ),
    "vit and lstm": (
        "images and texts",
        {
            "name": "two_tower",
            "dim": 6,
            "encoder_a": {"name": "vit", "patch_size": 4, "width": 8, "depth": 1, "heads": 2, "dropout": 0.4},
            "encoder_b": {"name": "lstm", "vocab_size": 10, "embedding_width": 4, "width": 6, "dropout": 0.4},
        },
    ),
    "batch norm and transformer": (
        "images and texts",
        {
            "name": "two_tower",
            "dim": 6,
            "encoder_a": {"name": "convnet", "widths": [8], "norm": "batch"},
            "encoder_b": {"name": "transformer", "vocab_size": 10, "width": 8, "depth": 1, "heads": 2, "dropout": 0.4},
        },
    ),
}


def gather(z, axis_name):
    return z if axis_name is None else jax.lax.all_gather(z, axis_name, tiled=True)


def step(case, axis_name, variables, a, b, rows, where):
    """Loss, gradients and new statistics; the global loss inside the gradient and the mean of gradients outside."""
    model = build_model(**CASES[case][1], axis_name=axis_name)
    statistics = {name: value for name, value in variables.items() if name != "params"}

    def loss(params):
        outputs, updated = model.apply(
            {"params": params, **statistics},
            a,
            b,
            train=True,
            rows=rows,
            where=where,
            rngs={"dropout": KEY},
            mutable=["batch_stats"],
        )
        za, zb = outputs["a"], outputs["b"]
        all_b, all_where = gather(zb, axis_name), gather(where, axis_name)
        logits = jnp.where(all_where, za @ all_b.T / outputs["temperature"], -1e30)
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * za.shape[0]
        own = jnp.take_along_axis(logits, (first + jnp.arange(za.shape[0]))[:, None], axis=1)[:, 0]
        total = jnp.sum(jnp.where(where, jax.nn.logsumexp(logits, axis=1) - own, 0.0))
        count = jnp.sum(where.astype(jnp.float32))
        if axis_name is not None:
            total, count = jax.lax.psum((total, count), axis_name)
        return total / count, (updated, za)

    (value, (updated, za)), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    if axis_name is not None:
        value, gradients = jax.lax.pmean((value, gradients), axis_name)
    return (value, gradients, updated), za


@functools.cache
def alone(case):
    a, b = INPUTS[CASES[case][0]]
    model = build_model(**CASES[case][1])
    variables = jax.jit(model.init)(KEY, a[:2], b[:2])
    return variables, jax.jit(functools.partial(step, case, None))(variables, a, b, np.arange(N), WHERE)


def sharded(case, variables, *, devices, mode):
    a, b = INPUTS[CASES[case][0]]
    batch = (a, b, np.arange(N), WHERE)
    if mode == "pmap":
        split = [x.reshape(devices, N // devices, *x.shape[1:]) for x in batch]
        run = jax.pmap(functools.partial(step, case, "d"), axis_name="d", in_axes=(None, 0, 0, 0, 0))
        replicated, za = run(variables, *split)
        return jax.tree.map(lambda x: x[0], replicated), za.reshape(N, -1)
    mesh = jax.make_mesh((devices,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])
    run = jax.shard_map(
        functools.partial(step, case, "d"),
        mesh=mesh,
        in_specs=(P(), P("d"), P("d"), P("d"), P("d")),
        out_specs=(P(), P("d")),
        check_vma=mode == "shard_map",
    )
    return jax.jit(run)(variables, *batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "devices", "mode"),
    [
        ("adapters", 2, "shard_map"),
        ("adapters", 8, "shard_map without vma check"),
        ("adapters", 4, "pmap"),
        ("vit and lstm", 8, "shard_map"),
        ("vit and lstm", 4, "shard_map without vma check"),
        ("batch norm and transformer", 8, "shard_map"),
        ("batch norm and transformer", 4, "pmap"),
    ],
)
def test_a_step_on_devices_is_a_step_on_one(case, devices, mode):
    variables, ((value, gradients, statistics), za) = alone(case)
    (value_, gradients_, statistics_), za_ = sharded(case, variables, devices=devices, mode=mode)
    np.testing.assert_allclose(za_[WHERE], za[WHERE], atol=1e-6)
    np.testing.assert_allclose(value_, value, rtol=2e-6)
    # Sums in another order round by the largest of their terms, so tolerances are relative to the largest entry.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=max(1e-5, 2e-6 * float(jnp.abs(y).max()))),
        gradients_,
        gradients,
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), statistics_, statistics)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients)) > 1e-3
