"""SOTAlign's divergence against an unrolled Sinkhorn in float64, and on several devices against one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alignment_jax.regularizers import transport

AXIS, N, M = "batch", 8, 16
SETTINGS = dict(epsilon=0.2, teacher_epsilon=0.1, iterations=60)
WHERE_A, WHERE_B = np.arange(N) % 5 != 1, np.arange(M) % 6 != 2
# Similarities are sums of 4 products, logarithms of plans are at most about 1 / teacher_epsilon + log(N M), and their
# float32 roundoffs add up over N + M terms; a derivative divides by epsilon.
ATOL = 20 * (4 + N + M) * 10 * 2.0**-24 / 0.2


def unit(*shape, seed):
    z = np.random.default_rng(seed).normal(size=shape)
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def latents():
    return unit(N, 4, seed=0), unit(M, 4, seed=1), unit(N, 3, seed=2), unit(M, 3, seed=3)


def masked(z):
    where = WHERE_A if len(z) == N else WHERE_B
    return np.where(where[:, None], z, np.nan).astype(np.float32)  # a masked row may hold anything


def loss(za, zb, teacher_a, teacher_b, where_a, where_b, axis_name=None):
    options = dict(teacher_a=teacher_a, teacher_b=teacher_b, where_a=where_a, where_b=where_b, axis_name=axis_name)
    return transport(za, zb, **SETTINGS, **options)


@functools.cache
def on_one_device():
    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def unrolled(za, zb, teacher_a, teacher_b):
    """The same by its definition, differentiated through every iteration."""

    def plan(s, epsilon):
        kernel = jnp.exp(s / epsilon)

        def iterate(scaling, _):
            u = 1 / s.shape[0] / (kernel @ scaling[1])
            return (u, 1 / s.shape[1] / (u @ kernel)), None

        (u, v), _ = jax.lax.scan(iterate, tuple(map(jnp.ones, s.shape)), length=SETTINGS["iterations"])
        return u[:, None] * kernel * v

    p, t = plan(za @ zb.T, SETTINGS["epsilon"]), plan(teacher_a @ teacher_b.T, SETTINGS["teacher_epsilon"])
    return jnp.sum(t * jnp.log(t / p))


@pytest.mark.costly
@pytest.mark.parametrize("mask", [False, True])
def test_value_and_derivative_are_those_of_an_unrolled_sinkhorn(mask):
    arrays = latents()
    where = (WHERE_A, WHERE_B) if mask else (np.ones(N, bool), np.ones(M, bool))
    value, gradients = on_one_device()(*(masked(z) if mask else z for z in arrays), *where)
    kept = [z[where[k % 2]].astype(np.float64) for k, z in enumerate(arrays)]
    with jax.enable_x64(True):
        expected, slopes = jax.jit(jax.value_and_grad(unrolled, (0, 1)))(*kept)
    assert slopes[0].dtype == np.float64
    np.testing.assert_allclose(value, expected, rtol=0, atol=ATOL)
    for found, slope, rows in zip(gradients, slopes, where, strict=True):
        np.testing.assert_allclose(found[rows], slope, rtol=0, atol=ATOL)
        assert not np.any(found[~rows])
        assert np.abs(slope).max() > 100 * ATOL


def test_the_teacher_itself_is_the_minimum_and_masked_sides_give_zero():
    za, zb, *_ = latents()
    same = dict(SETTINGS, teacher_epsilon=SETTINGS["epsilon"])
    derivative = jax.jit(
        jax.value_and_grad(lambda z, w: transport(z, zb, teacher_a=za, teacher_b=zb, where_a=w, **same))
    )
    for found in (*derivative(za, np.ones(N, bool)), *derivative(-za, np.zeros(N, bool))):
        assert np.abs(found).max() < ATOL
    assert derivative(-za, np.ones(N, bool))[0] > 100 * ATOL


@pytest.mark.costly
@pytest.mark.parametrize(("devices", "way"), [(8, "shard_map"), (2, "shard_map, no check"), (4, "pmap")])
def test_devices_equal_one(devices, way):
    arguments = (*map(masked, latents()), jnp.asarray(WHERE_A), jnp.asarray(WHERE_B))
    expected = on_one_device()(*arguments)

    def step(*arguments):
        """Parameters are replicated and the rows of both sides are sharded, as in training."""

        def local(x):
            size = len(x) // devices
            return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * size, size)

        value, gradients = jax.value_and_grad(
            lambda za, zb: loss(*map(local, (za, zb, *arguments[2:])), axis_name=AXIS), (0, 1)
        )(*arguments[:2])
        return value, jax.lax.pmean(gradients, AXIS)

    if way == "pmap":
        run = jax.pmap(lambda _, *x: step(*x), AXIS, in_axes=(0, *[None] * 6), devices=jax.devices()[:devices])
        found = jax.tree.map(lambda x: x[0], run(np.arange(devices), *arguments))
    else:
        mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
        options = dict(mesh=mesh, in_specs=P(), out_specs=P(), check_vma=way == "shard_map")
        found = jax.jit(jax.shard_map(step, **options))(*arguments)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=ATOL)


def test_seeds_are_vmapped():
    za, zb, *teacher = latents()
    where = np.ones(N, bool), np.ones(M, bool)
    several = np.stack([za, -za])
    found = jax.jit(jax.vmap(jax.grad(lambda za: loss(za, zb, *teacher, *where))))(several)
    for one, gradient in zip(several, found, strict=True):
        np.testing.assert_allclose(gradient, on_one_device()(one, zb, *teacher, *where)[1][0], rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"zb": np.zeros((M, 5), np.float32)}, "zb"),
        ({"teacher_a": np.zeros((N + 1, 3), np.float32)}, "teacher_a"),
        ({"teacher_epsilon": 0.0}, "teacher_epsilon"),
        ({"iterations": 0}, "iterations"),
        ({"where_b": np.ones(N, bool)}, "where"),
    ],
)
def test_arguments_out_of_range_are_named(changes, name):
    za, zb, teacher_a, teacher_b = latents()
    with pytest.raises(ValueError, match=name):
        transport(**{"za": za, "zb": zb, "teacher_a": teacher_a, "teacher_b": teacher_b, **changes})
