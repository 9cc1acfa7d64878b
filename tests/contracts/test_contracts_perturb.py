"""Properties of every perturbation. A new one adds one row to TABLE."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alignment_jax import perturb

pytestmark = pytest.mark.costly

N, D, AXIS = 16, 6, "batch"
SCALE = np.arange(1.0, D + 1)
Z = np.random.default_rng(0).normal(1.0, 2.0, (N, D)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Row:
    """`apply`: (keys [n], z [n, d], strength, options) -> z'; 0 strength changes nothing."""

    apply: Callable
    strength: float


TABLE = {
    "gaussian": Row(lambda keys, z, s, **options: perturb.gaussian(keys, z, sigma=s), 0.5),
    "gaussian, relative": Row(
        lambda keys, z, s, **options: perturb.gaussian(keys, z, sigma=s, relative=True, **options), 0.2
    ),
    "gaussian, known scale": Row(
        lambda keys, z, s, **options: perturb.gaussian(keys, z, sigma=s, relative=True, scale=SCALE),
        0.2,
    ),
}
MIXINGS = {"fusemix", "sample_lambda"}  # these take other arguments and have their own tests below
every_noise = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def keys(seed=0, rows=None):
    return perturb.row_keys(jax.random.key(seed), np.arange(N) if rows is None else rows)


def test_the_table_holds_every_perturbation():
    assert set(perturb.__all__) == {name.split(",")[0] for name in TABLE} | MIXINGS | {"row_keys"}


@every_noise
def test_the_key_decides_and_nothing_else(row):
    function = jax.jit(lambda key: row.apply(perturb.row_keys(key, jnp.arange(N)), Z, row.strength))
    one = function(jax.random.key(0))
    np.testing.assert_array_equal(one, function(jax.random.key(0)))
    np.testing.assert_allclose(one, row.apply(keys(), Z, row.strength), rtol=1e-6, atol=1e-6)
    other = function(jax.random.key(1))
    assert (np.asarray(one) != np.asarray(other)).all()
    assert (np.asarray(one) != Z).all()


@every_noise
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_strength_is_exact(row, dtype):
    z = Z.astype(dtype)
    found = jax.jit(lambda s: row.apply(keys(), z, s))(jnp.float32(0.0))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, z)


@every_noise
def test_noise_belongs_to_the_row_wherever_it_lies(row):
    order = np.random.default_rng(1).permutation(N)
    found = row.apply(keys(rows=order), Z[order], row.strength)
    np.testing.assert_allclose(found, np.asarray(row.apply(keys(), Z, row.strength))[order], rtol=1e-6, atol=1e-6)


@every_noise
@pytest.mark.parametrize(
    ("devices", "way"), [(2, "shard_map"), (8, "shard_map"), (8, "shard_map, no check"), (4, "pmap")]
)
def test_noise_does_not_depend_on_the_number_of_devices(row, devices, way):
    where = np.arange(N) % 3 > 0

    def local(z, rows, where):
        return row.apply(keys(rows=rows), z, row.strength, where=where, axis_name=AXIS)

    expected = row.apply(keys(), Z, row.strength, where=where)
    chosen, arguments = jax.devices()[:devices], (Z, np.arange(N), where)
    if way == "pmap":
        sharded = [x.reshape(devices, -1, *x.shape[1:]) for x in arguments]
        found = jax.pmap(local, AXIS, devices=chosen)(*sharded).reshape(N, D)
    else:
        mesh = Mesh(np.array(chosen), (AXIS,))
        run = jax.shard_map(local, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS), check_vma=way == "shard_map")
        found = jax.jit(run)(*arguments)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@every_noise
def test_moments(row):
    """Mean 0 and the asked-for deviation, within five standard errors of 32 000 draws."""
    z = jnp.asarray(np.random.default_rng(2).normal(1.0, 2.0, (2000, N)), jnp.float32)[:, :D]
    noise = np.asarray(row.apply(keys(rows=np.arange(2000)), z, row.strength) - z, np.float64)
    absolute, relative, known = TABLE.values()
    expected = {
        id(absolute): np.full(D, row.strength),
        id(relative): np.full(D, row.strength * np.std(np.asarray(z, np.float64))),
        id(known): row.strength * SCALE,
    }[id(row)]
    assert (np.abs(noise.mean(axis=0)) < 5 * expected / np.sqrt(2000)).all()
    assert (np.abs(noise.std(axis=0) / expected - 1) < 5 / np.sqrt(2 * 2000)).all()


@every_noise
def test_the_gradient_of_the_input_is_its_own(row):
    weights = np.random.default_rng(3).normal(size=Z.shape).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(weights * row.apply(keys(), z, row.strength))))(Z)
    np.testing.assert_array_equal(gradient, weights)


def test_mixing_is_the_same_for_both_modalities():
    """Mixed in one array or in two: the partner and the weight are shared."""
    both = np.concatenate([Z, 3 * Z[::-1]], axis=1)
    za, zb = jax.jit(lambda lam: perturb.fusemix(both[:, :D], both[:, D:], lam=lam))(0.3)
    together, _ = perturb.fusemix(both, both, lam=0.3)
    np.testing.assert_allclose(np.concatenate([za, zb], axis=1), together, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_mixing_weight_is_decided_by_its_key():
    draw = jax.jit(lambda key, alpha: perturb.sample_lambda(key, alpha=alpha))
    one, again, other = (draw(jax.random.key(k), 1.0) for k in (0, 0, 1))
    assert one == again != other
    assert one.dtype == jnp.float32
    many = jax.jit(jax.vmap(draw, (0, None)))(jax.random.split(jax.random.key(2), 1000), jnp.float32(0.05))
    assert np.isfinite(many).all()
    assert many.min() >= 0
    assert many.max() <= 1
