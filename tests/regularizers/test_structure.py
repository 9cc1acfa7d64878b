"""STRUCTURE against its formula in float64, and on several devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alignment_jax.losses import reduce
from alignment_jax.regularizers import structure

AXIS, N, TAU = "batch", 8, 0.1
WHERE = np.array([1, 0, 1, 1, 1, 0, 1, 1], bool)
# Similarities of unit vectors over the temperature: sums of 6 products, a logarithm, sums over N neighbours; each of
# some float32 roundoffs, amplified by 1 / TAU. The divergence is at most log 2.
ATOL = 20 * (6 + 8 + N) / TAU * 2.0**-24


def latents():
    rng = np.random.default_rng(0)
    original = rng.normal(size=(N, 6)).astype(np.float32)
    aligned = (original[:, :4] + rng.normal(size=(N, 4))).astype(np.float32)
    return original, aligned


def masked(z):
    return np.where(WHERE[:, None], z, np.nan).astype(np.float32)  # a masked row may hold anything


def in_float64(original, aligned):
    def neighbours(z):
        z = np.float64(z)
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        unit -= unit.mean(axis=0)
        power = np.exp(unit @ unit.T / TAU)
        return power / power.sum(axis=1, keepdims=True)

    p, q = neighbours(original), neighbours(aligned)
    m = 0.5 * (p + q)
    return 0.5 * np.sum(p * np.log(p / m) + q * np.log(q / m), axis=1)


each = jax.jit(lambda original, aligned, where=None: structure(original, aligned, temperature=TAU, where=where))


def loss(aligned, original, where, axis_name=None):
    found = structure(original, aligned, temperature=TAU, where=where, axis_name=axis_name)
    return reduce(found, where=where, axis_name=axis_name)


def test_the_formula_with_and_without_masked_rows():
    original, aligned = latents()
    np.testing.assert_allclose(each(original, aligned), in_float64(original, aligned), rtol=0, atol=ATOL)
    found = each(masked(original), masked(aligned), WHERE)
    np.testing.assert_allclose(found[WHERE], in_float64(original[WHERE], aligned[WHERE]), rtol=0, atol=ATOL)
    assert np.all(found[~WHERE] == 0)
    assert found.max() > 100 * ATOL  # the comparison above could fail


@pytest.mark.slow
def test_the_gradient_is_that_of_differences_and_zero_where_the_neighbours_agree():
    original, aligned = latents()
    derivative = jax.jit(jax.value_and_grad(loss))
    _, gradient = derivative(masked(aligned), masked(original), WHERE)
    assert np.all(gradient[~WHERE] == 0)
    kept, step = np.float64(aligned[WHERE]), 1e-5
    direction = np.random.default_rng(1).normal(size=kept.shape)
    up, down = (in_float64(original[WHERE], kept + sign * step * direction).mean() for sign in (1, -1))
    slope = np.sum(gradient[WHERE] * direction)
    np.testing.assert_allclose(slope, (up - down) / (2 * step), atol=ATOL * np.abs(direction).sum())
    rotated = original @ np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0].astype(np.float32)
    value, gradient = derivative(7 * rotated, original, np.ones(N, bool))
    assert np.abs(value) < ATOL
    assert np.abs(gradient).max() < ATOL
    for nothing in derivative(aligned, original, np.zeros(N, bool)):
        assert np.all(nothing == 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "way"), [(4, "shard_map"), (8, "shard_map"), (2, "shard_map, no check"), (4, "pmap")]
)
def test_devices_equal_one(devices, way):
    original, aligned = map(masked, latents())
    expected = jax.jit(jax.value_and_grad(loss))(aligned, original, WHERE)

    def step(aligned, original, where):
        """Parameters are replicated and the batch is sharded, as in training."""
        start = jax.lax.axis_index(AXIS) * (N // devices)

        def local(x):
            return jax.lax.dynamic_slice_in_dim(x, start, N // devices)

        value, gradient = jax.value_and_grad(lambda x: loss(local(x), local(original), local(where), AXIS))(aligned)
        return value, jax.lax.pmean(gradient, AXIS)

    arguments = aligned, original, jnp.asarray(WHERE)
    if way == "pmap":
        run = jax.pmap(lambda _, *x: step(*x), AXIS, in_axes=(0, None, None, None), devices=jax.devices()[:devices])
        found = jax.tree.map(lambda x: x[0], run(np.arange(devices), *arguments))
    else:
        mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
        options = dict(mesh=mesh, in_specs=P(), out_specs=P(), check_vma=way == "shard_map")
        found = jax.jit(jax.shard_map(step, **options))(*arguments)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=ATOL)


def test_seeds_are_vmapped():
    original, aligned = latents()
    several = np.stack([aligned, -2 * aligned, aligned[::-1]])
    for found, one in zip(jax.vmap(each, (None, 0))(original, several), several, strict=True):
        np.testing.assert_allclose(found, each(original, one), rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"original": np.zeros(3, np.float32)}, "original"),
        ({"aligned": np.zeros((N + 1, 2), np.float32)}, "aligned"),
        ({"temperature": 0.0}, "temperature"),
        ({"where": np.ones(N + 1, bool)}, "where"),
    ],
)
def test_arguments_out_of_range_are_named(changes, name):
    original, aligned = latents()
    with pytest.raises(ValueError, match=name):
        structure(**{"original": original, "aligned": aligned, **changes})
