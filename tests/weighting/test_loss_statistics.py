"""The variances of the losses against NumPy in float64, and over any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import alignment_jax as aj
from alignment_jax.weighting import direction_statistics, directional, loss_statistics

N, AXIS, U = 16, "batch", 2.0**-24
WHERE = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)
EXP = 8  # exp within four units in the last place


def make_losses(offset=0.0, seed=0):
    drawn = np.random.default_rng(seed).gamma(2.0, 1.0, (2, N))
    return (offset + drawn).astype(np.float32)


def as_array(statistics):
    return np.array([statistics.probability, statistics.loss])


def by_definition(losses, where):
    """Variances [signals, directions] in float64, and a bound for the error of float32."""
    kept = np.asarray(losses, np.float64)[:, where]
    found, bounds = [], []
    for x, own in ((np.exp(-kept), EXP), (kept, 0)):
        deviation = np.abs(x - x.mean(1, keepdims=True)).mean(1)
        off = (own * np.abs(x).max(1) + (N + 2) * np.abs(x).mean(1)) * U  # of a value and of the mean
        found.append(x.var(1))
        bounds.append(2 * deviation * off + off**2 + (N + 6) * U * x.var(1))
    return np.array(found), 1.01 * np.array(bounds)


@functools.cache
def compiled():
    return jax.jit(loss_statistics)


@pytest.mark.parametrize("where", [WHERE, np.ones(N, bool)], ids=["masked", "whole"])
@pytest.mark.parametrize("offset", [0.0, 500.0])  # E[x²] - E[x]² would lose the variance beside 500²
def test_definition(offset, where):
    losses = make_losses(offset)
    found = compiled()(*np.where(where, losses, np.nan), where=where)
    expected, bound = by_definition(losses, where)
    assert (np.abs(as_array(found) - expected) <= bound).all()


def test_bfloat16_in_float32_out():
    losses = jnp.asarray(make_losses(), jnp.bfloat16)
    found = loss_statistics(*losses)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    expected, bound = by_definition(np.asarray(losses, np.float64), np.ones(N, bool))
    assert (np.abs(as_array(found) - expected) <= bound).all()


@pytest.mark.parametrize(("devices", "way"), [(8, "shard_map"), (8, "shard_map, no check"), (4, "pmap")])
def test_over_devices_as_on_one(devices, way):
    losses = np.where(WHERE, make_losses(), np.nan)
    local = functools.partial(loss_statistics, axis_name=AXIS)
    chosen = jax.devices()[:devices]
    if way == "pmap":
        sharded = [x.reshape(devices, -1) for x in (*losses, WHERE)]
        found = jax.pmap(lambda ab, ba, where: local(ab, ba, where=where), AXIS, devices=chosen)(*sharded)
        found = jax.tree.map(lambda x: x[-1], found)
    else:
        run = jax.shard_map(
            lambda ab, ba, where: local(ab, ba, where=where),
            mesh=Mesh(np.array(chosen), (AXIS,)),
            in_specs=P(AXIS),
            out_specs=P(),
            check_vma=way == "shard_map",
        )
        found = jax.jit(run)(*losses, WHERE)
    expected, bound = by_definition(losses, WHERE)
    assert (np.abs(as_array(found) - expected) <= bound).all()


def test_vmapped_over_seeds():
    losses = np.stack([make_losses(seed=seed) for seed in range(3)], axis=1)  # [directions, seeds, n]
    found = jax.vmap(lambda ab, ba: loss_statistics(ab, ba, where=WHERE))(*losses)
    for seed in range(3):
        expected, bound = by_definition(losses[:, seed], WHERE)
        assert (np.abs(as_array(found)[:, :, seed] - expected) <= bound).all()


def test_no_gradient_passes_and_one_row_or_none_does_not_vary():
    def total(losses):
        return sum(jax.tree.leaves(loss_statistics(*losses, where=WHERE)))

    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(make_losses())), np.zeros((2, N)))
    for count in (0, 1):
        found = compiled()(*make_losses(), where=np.arange(N) < count)
        np.testing.assert_array_equal(as_array(found), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"loss_ab": jnp.ones((2, 2))}, "loss_ab"),
        ({"loss_ba": jnp.ones(3)}, "loss_ba"),
        ({"where": jnp.ones(3, bool)}, "where"),
    ],
)
def test_errors_name_the_argument(change, word):
    with pytest.raises(ValueError, match=word):
        loss_statistics(**{"loss_ab": jnp.ones(2), "loss_ba": jnp.ones(2), **change})


@functools.cache
def hubs():
    """Centred embeddings of pairs; eight b-items are longer than the others and so near to most of a."""
    rng = np.random.default_rng(0)
    za = rng.normal(size=(64, 16))
    zb = za + 0.3 * rng.normal(size=za.shape)
    zb[:8] *= 3
    return [np.float32(z - z.mean(0)) / np.float32(4) for z in (za, zb)]


@pytest.mark.costly
@pytest.mark.parametrize("signal", ["variance", "probability", "loss"])
def test_weights_move_where_those_of_centred_embeddings_cannot(signal):
    za, zb = hubs()
    if signal == "variance":
        statistics = direction_statistics(za, zb, temperature=0.1, similarity="dense")
    else:
        statistics = loss_statistics(*aj.losses.infonce(za, zb, temperature=0.1, similarity="dense"))
    moved = []
    for mode in ("proportional", "inverse"):
        init, update = directional(signal, mode=mode)
        moved.append(float(update(statistics, init())[0][0]) - 1.0)
    assert moved[0] == pytest.approx(-moved[1], abs=2 * U)
    assert abs(moved[0]) < 1e-4 if signal == "variance" else moved[0] > 0.2
