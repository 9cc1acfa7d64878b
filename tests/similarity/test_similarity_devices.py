"""Every form on every number of devices, wrapped in every way, against one device that holds S whole."""

import functools

import jax
import numpy as np
import pytest
from float_bounds import agreement, gamma
from jax.sharding import PartitionSpec as P

from alignment_jax import losses

pytestmark = pytest.mark.costly

N, D = 32, 6
AGREE = agreement(N, D, 0.05)  # the smallest temperature of the batch
WRAPPERS = ("shard_map", "shard_map, no check", "pmap")
WEIGHTS = (1.3, 0.7)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(N, D))
    b = a + 0.5 * rng.normal(size=(N, D))
    where = np.ones(N, bool)
    where[[1, 2, 3, 9, 30]] = False  # uneven: on eight devices the first keeps one row of four, most keep all
    a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
    a[1], b[3] = np.nan, np.inf  # a masked row may hold anything
    return {
        "a": a.astype(np.float32),
        "b": b.astype(np.float32),
        "own": rng.uniform(0.05, 0.2, N).astype(np.float32),
        "where": where,
    }


def loss(trained, where, *, similarity, axis_name):
    """All three losses with all that they take, so that one gradient tests them all."""
    a, b, own, shared = trained
    common = dict(where=where, axis_name=axis_name, similarity=similarity)
    reduce = functools.partial(losses.reduce, where=where, axis_name=axis_name)
    parts = {
        "own": reduce(*losses.infonce(a, b, temperature=own, **common), weights=WEIGHTS),
        "shared": reduce(*losses.infonce(a, b, temperature=shared, smoothing=0.1, **common)),
        "hinge": reduce(*losses.max_margin(a, b, margin=own, **common)),
        "weighted": reduce(*losses.max_margin(a, b, margin=shared, **common), weights=WEIGHTS),
        "sigmoid": reduce(losses.sigmoid(a, b, scale=1 / shared, bias=-shared, **common)),
    }
    return sum(parts.values()), parts


def differentiate(similarity, axis_name, trained, where):
    (_, parts), gradients = jax.value_and_grad(loss, has_aux=True)(
        trained, where, similarity=similarity, axis_name=axis_name
    )
    return parts, gradients


@functools.cache
def whole_reference():
    return jax.jit(functools.partial(differentiate, "dense", None))


def on_devices(batch, similarity, wrapper, devices):
    trained = (batch["a"], batch["b"], batch["own"], np.float32(0.07))
    if wrapper == "pmap":

        def local(trained, where):
            parts, gradients = differentiate(similarity, "i", trained, where)
            # The gradients of rows are this device's; every device's copy of the temperature has its own share.
            return parts, (*(g / devices for g in gradients[:3]), jax.lax.pmean(gradients[3], "i"))

        def cut(x):
            return x.reshape(devices, -1, *x.shape[1:])

        run = jax.pmap(local, "i", in_axes=((0, 0, 0, None), 0), devices=jax.devices()[:devices])
        parts, gradients = run((*map(cut, trained[:3]), trained[3]), cut(batch["where"]))
        rows = [g.reshape(N, *g.shape[2:]) for g in gradients[:3]]
        return {k: v[0] for k, v in parts.items()}, (*rows, gradients[3][0])
    checked = wrapper == "shard_map"

    def local(trained, where):
        parts, gradients = differentiate(similarity, "i", trained, where)
        if checked:
            return parts, gradients
        return parts, (*(g / devices for g in gradients[:3]), jax.lax.pmean(gradients[3], "i"))

    rows = (P("i"), P("i"), P("i"), P())
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("i",))
    run = jax.shard_map(local, mesh=mesh, in_specs=(rows, P("i")), out_specs=(P(), rows), check_vma=checked)
    return jax.jit(run)(trained, batch["where"])


def assert_equal_gradients(found, expected):
    (parts, gradients), (parts0, gradients0) = found, expected
    for name in parts0:
        np.testing.assert_allclose(parts[name], parts0[name], rtol=AGREE, atol=AGREE, err_msg=name)
    # A temperature's derivative is the difference of two similarities times 1/τ²: the forms add up S in their own
    # order, and its error alone is 2 γ(d) / τ² there, of terms that weigh 1 / n a row.
    error, weight = 2 * gamma(D), 1.0 / 27
    of_similarity = {"own": error * weight / 0.05**2, "shared": error / 0.07**2}
    for name, g, g0 in zip(("a", "b", "own", "shared"), gradients, gradients0, strict=True):
        # Relative to the largest entry: single ones may be small differences of large terms.
        atol = max(AGREE * np.max(np.abs(g0)), of_similarity.get(name, 0.0))
        np.testing.assert_allclose(g, g0, rtol=0, atol=atol, err_msg=name)


# The number of devices is the number of a ring's steps; gathering has one whatever their number.
RUNS = [(form, wrapper, 8) for form in ("dense", "gathered:3", "ring:3") for wrapper in WRAPPERS]
RUNS += [("ring:3", "shard_map", 1), ("ring:3", "shard_map", 2), ("ring:3", "pmap", 2), ("ring:3", "shard_map", 4)]
RUNS += [("dense", "shard_map", 1), ("dense", "pmap", 2), ("gathered:3", "shard_map", 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("similarity", "wrapper", "devices"), RUNS)
def test_devices_agree_with_one_that_holds_all(similarity, wrapper, devices, batch):
    trained = (batch["a"], batch["b"], batch["own"], np.float32(0.07))
    expected = whole_reference()(trained, batch["where"])
    assert_equal_gradients(on_devices(batch, similarity, wrapper, devices), expected)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["tiled:32", "tiled:5", "ring:5", "gathered:8"])
def test_tiles_agree_with_the_whole_block(similarity, batch):
    trained = (batch["a"], batch["b"], batch["own"], np.float32(0.07))
    found = jax.jit(functools.partial(differentiate, similarity, None))(trained, batch["where"])
    assert_equal_gradients(found, whole_reference()(trained, batch["where"]))
