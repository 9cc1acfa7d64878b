import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alignment_jax.core import (
    ConfigError,
    MissingPackageError,
    ema,
    l2_normalize,
    masked_count,
    masked_mean,
    masked_sum,
)
from alignment_jax.core.checks import check_pair, check_scalar_or_rows
from alignment_jax.core.optional import require

pytestmark = pytest.mark.optimized


@pytest.mark.costly
@pytest.mark.parametrize("devices", [1, 2, 8])
def test_means_over_uneven_shards_are_the_mean_of_the_whole(devices):
    x = np.random.default_rng(0).normal(size=16).astype(np.float32)
    where = np.arange(16) < 5  # the first shards hold everything that counts
    mesh = jax.make_mesh((devices,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    reduce = jax.shard_map(
        lambda x, w: masked_mean(x, w, axis_name="d"), mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P()
    )
    np.testing.assert_allclose(reduce(x, where), x[:5].mean(), rtol=1e-6)


def test_no_row_counts():
    x, nothing = jnp.array([jnp.nan, jnp.inf]), jnp.zeros(2, bool)
    assert float(masked_mean(x, nothing)) == 0
    np.testing.assert_array_equal(jax.grad(lambda x: masked_mean(x, nothing))(x), 0)


def test_masked_rows_reach_neither_value_nor_gradient():
    x, where = jnp.array([[1.0, 2.0], [jnp.nan, jnp.inf]]), jnp.array([True, False])
    np.testing.assert_array_equal(masked_sum(x, where), [1, 2])
    np.testing.assert_array_equal(jax.grad(lambda x: masked_sum(x**2, where).sum())(x)[0], [2, 4])


@pytest.mark.slow
def test_unit_length_over_the_whole_range_of_float32():
    z = jnp.array([3.0, 4.0])
    for unit in (1e-11, 1.0, 1e9, 1e10, 1e13, 3e19, 1e36):
        np.testing.assert_allclose(l2_normalize(unit * z), [0.6, 0.8], rtol=3e-7)
        gradient = jax.grad(lambda z: l2_normalize(z)[0])(unit * z)
        np.testing.assert_allclose(gradient * unit, [0.128, -0.096], rtol=1e-5)
    np.testing.assert_allclose(l2_normalize(8e37 * z), [0.6, 0.8], rtol=3e-7)  # its gradient is below float32's
    assert l2_normalize(jnp.zeros((2, 0))).shape == (2, 0)


def test_counts():
    assert float(masked_count(jnp.ones((3, 2)))) == 3
    assert float(masked_count(jnp.ones(3), jnp.array([True, False, True]))) == 2


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_a_constant_is_its_own_average_from_the_first_step_on(decay):
    init, update = ema(decay)
    state = init(jnp.zeros(2))
    for _ in range(3):
        mean, state = update(jnp.array([3.0, -1.0]), state)
        np.testing.assert_allclose(mean, [3, -1], rtol=1e-6)


def test_the_average_follows_its_definition():
    init, update = ema(0.9)
    values, state = np.random.default_rng(0).normal(size=20), init(jnp.zeros(()))
    for value in values:
        mean, state = update(value, state)
    weights = 0.9 ** np.arange(19, -1, -1)
    np.testing.assert_allclose(mean, np.sum(weights * values) / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ConfigError, match="decay"):
        ema(decay)


@pytest.mark.parametrize(
    ("za", "zb", "where", "message"),
    [
        (np.ones(3), np.ones((3, 2)), None, "za"),
        (np.ones((3, 2)), np.ones((4, 2)), None, "za and zb"),
        (np.ones((3, 2), int), np.ones((3, 2)), None, "za.*int"),
        (np.ones((3, 2)), np.ones((3, 2)), np.ones(2, bool), "where"),
        (np.ones((3, 2)), np.ones((3, 2)), np.ones(3), "where.*float"),
    ],
)
def test_messages_name_the_argument(za, zb, where, message):
    with pytest.raises(ValueError, match=message):
        check_pair(za, zb, where)


def test_a_strength_is_a_scalar_or_one_for_each_row():
    check_scalar_or_rows("temperature", 0.1, 3)
    check_scalar_or_rows("temperature", np.ones(3), 3)
    with pytest.raises(ValueError, match="temperature"):
        check_scalar_or_rows("temperature", np.ones(2), 3)


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingPackageError, match=r"pip install 'alignment_jax\[train\]'"):
        require("no_such_package_at_all", extra="train", purpose="test")
