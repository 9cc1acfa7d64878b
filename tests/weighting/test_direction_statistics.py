"""The statistics against their definition in NumPy, and over any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alignment_jax.weighting import direction_statistics

pytestmark = pytest.mark.costly

N, AXIS = 16, "batch"
WHERE = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    za, zb = (rng.normal(size=(N, 5)).astype(np.float32) for _ in range(2))
    return za, zb, np.linspace(0.3, 2.0, N, dtype=np.float32)


def by_definition(za, zb, temperature, where):
    za, zb, temperature = (x[where].astype(np.float64) for x in (za, zb, temperature))
    found = []
    for s in (za @ zb.T, zb @ za.T):
        p = np.exp(s / temperature[:, None])
        p /= p.sum(axis=1, keepdims=True)
        entropy = -np.sum(p * np.log(p), axis=1)
        found.append((s.var(axis=1).mean(), entropy.mean(), np.ptp(s, axis=1).mean()))
    return np.transpose(found)  # statistics x directions


def as_array(statistics):
    return np.array([statistics.variance, statistics.entropy, statistics.spread])


@pytest.mark.parametrize("where", [WHERE, np.ones(N, bool)], ids=["masked", "whole"])
def test_definition(where):
    za, zb, temperature = batch()
    poisoned = [np.where(where.reshape((-1,) + (1,) * (x.ndim - 1)), x, np.nan) for x in (za, zb, temperature)]
    found = jax.jit(direction_statistics)(*poisoned[:2], temperature=poisoned[2], where=where)
    np.testing.assert_allclose(as_array(found), by_definition(za, zb, temperature, where), rtol=2e-6)


def test_directions_swap_with_the_modalities():
    za, zb, temperature = batch()
    forth = direction_statistics(za, zb, temperature=temperature)
    back = direction_statistics(zb, za, temperature=temperature)
    np.testing.assert_array_equal(as_array(forth), as_array(back)[:, ::-1])


@pytest.mark.parametrize(
    ("devices", "way"), [(1, "shard_map"), (2, "shard_map, no check"), (4, "pmap"), (8, "shard_map"), (8, "pmap")]
)
def test_over_devices_as_on_one(devices, way):
    def local(za, zb, temperature, where):
        found = direction_statistics(za, zb, temperature=temperature, where=where, axis_name=AXIS)
        # One number for all rows is the other kind of temperature.
        fixed = direction_statistics(za, zb, temperature=0.7, where=where, axis_name=AXIS)
        return found, fixed

    arguments = [np.where(WHERE.reshape((-1,) + (1,) * (x.ndim - 1)), x, np.nan) for x in batch()]
    expected = [
        direction_statistics(*arguments[:2], temperature=temperature, where=WHERE)
        for temperature in (arguments[2], 0.7)
    ]
    chosen = jax.devices()[:devices]
    if way == "pmap":
        sharded = [x.reshape(devices, -1, *x.shape[1:]) for x in (*arguments, WHERE)]
        results = jax.pmap(local, AXIS, devices=chosen)(*sharded)
        results = [jax.tree.map(lambda x, k=k: x[k], results) for k in range(devices)]  # the same on every device
    else:
        mesh = Mesh(np.array(chosen), (AXIS,))
        run = jax.shard_map(local, mesh=mesh, in_specs=P(AXIS), out_specs=P(), check_vma=way == "shard_map")
        results = [jax.jit(run)(*arguments, WHERE)]
    for result in results:
        for found, one in zip(result, expected, strict=True):
            np.testing.assert_allclose(as_array(found), as_array(one), rtol=2e-6)


def test_no_gradient_passes():
    za, zb, temperature = batch()

    def everything(za, zb, temperature):
        return sum(jax.tree.leaves(direction_statistics(za, zb, temperature=temperature, where=WHERE)))

    for gradient in jax.jit(jax.grad(everything, (0, 1, 2)))(za, zb, temperature):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -3.0, 123.456, 1e4])
def test_equal_similarities_do_not_vary(value):
    """Every S the same: variance and spread are 0 up to the rounding of the mean, and never negative."""
    za = np.full((N, 1), value, np.float32)
    found = jax.jit(direction_statistics)(za, np.ones_like(za), temperature=1.0)
    rounding = (4 * 2.0**-24 * abs(value)) ** 2
    for variance in found.variance:
        assert 0 <= float(variance) <= rounding
    np.testing.assert_array_equal(found.spread, np.zeros(2))
    np.testing.assert_allclose(found.entropy, np.log([N, N]), rtol=1e-6)


def test_a_small_variance_about_a_large_mean_keeps_its_digits():
    s = 1000 + np.linspace(0, 1, N, dtype=np.float32)
    found = direction_statistics(np.ones((N, 1), np.float32), s[:, None], temperature=1.0)
    np.testing.assert_allclose(found.variance[0], np.var(s.astype(np.float64)), rtol=1e-4)
    np.testing.assert_allclose(found.variance[1], 0, atol=1e-6)


def test_one_candidate_and_none():
    za, zb, temperature = batch()
    one = direction_statistics(za, zb, temperature=temperature, where=np.arange(N) == 3)
    np.testing.assert_array_equal(as_array(one), np.zeros((3, 2)))
    none = direction_statistics(za * np.nan, zb, temperature=temperature, where=np.zeros(N, bool))
    np.testing.assert_array_equal(as_array(none), np.zeros((3, 2)))


@pytest.mark.parametrize("temperature", [0.001, 10.0])
@pytest.mark.parametrize("norm", [0.0, 1.0, 1e4])
def test_finite_for_zero_vectors_and_huge_logits(norm, temperature):
    za, zb, _ = batch()
    run = compiled_statistics()
    found = as_array(run(norm * za, norm * zb, jnp.float32(temperature)))
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@functools.cache
def compiled_statistics():
    return jax.jit(lambda za, zb, temperature: direction_statistics(za, zb, temperature=temperature))


def test_bfloat16_in_float32_out():
    za, zb, temperature = batch()
    za, zb = za.astype(jnp.bfloat16), zb.astype(jnp.bfloat16)
    found = direction_statistics(za, zb, temperature=temperature)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    wide = direction_statistics(za.astype(np.float32), zb.astype(np.float32), temperature=temperature)
    np.testing.assert_allclose(as_array(found), as_array(wide), rtol=2e-6)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (dict(za=np.ones(3, np.float32)), "za"),
        (dict(zb=np.ones((4, 2), np.float32)), "za and zb"),
        (dict(temperature=np.ones(2)), "temperature"),
        (dict(where=np.ones(3)), "where"),
    ],
)
def test_messages_name_the_argument(change, word):
    arguments = dict(za=np.ones((3, 2), np.float32), zb=np.ones((3, 2), np.float32), temperature=1.0) | change
    with pytest.raises(ValueError, match=word):
        direction_statistics(arguments.pop("za"), arguments.pop("zb"), **arguments)


def test_lists_are_arrays_and_a_batch_without_rows_is_refused():
    statistics = direction_statistics([[1.0, 0.0], [0.0, 1.0]], np.eye(2), temperature=1.0)
    assert float(statistics.variance[0]) == 0.25
    with pytest.raises(ValueError, match="za"):
        direction_statistics(np.zeros((0, 2)), np.zeros((0, 2)), temperature=1.0)
