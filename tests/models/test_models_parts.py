"""Dropout, masking, batch norm, temperature, decay mask: the parts of which the models are made."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alignment_jax.core import ConfigError, l2_normalize
from alignment_jax.models import BatchNorm, LogitScale, clamp_temperature, decay_mask, row_dropout
from alignment_jax.models.masking import last_token, masked_token_mean, zero_padded_rows
from alignment_jax.models.norm import Norm
from alignment_jax.models.temperature import straight_through_clip

pytestmark = pytest.mark.costly

KEY = jax.random.key(3)


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_dropout_of_shards_is_dropout_of_the_whole(shards):
    x = jax.random.normal(KEY, (16, 5, 3))
    whole = row_dropout(KEY, x, rate=0.4)
    rows = jnp.arange(16).reshape(shards, -1)
    parts = [row_dropout(KEY, x[r], rate=0.4, rows=r) for r in rows]
    np.testing.assert_array_equal(jnp.concatenate(parts), whole)


def test_dropout_follows_the_row_number_not_the_place():
    x = jnp.ones((8, 20))
    order = jnp.array([3, 1, 7, 0, 2, 6, 5, 4])
    np.testing.assert_array_equal(row_dropout(KEY, x, rate=0.5, rows=order), row_dropout(KEY, x, rate=0.5)[order])


def test_dropout_of_a_longer_text_keeps_the_masks_of_its_beginning():
    short, long = (row_dropout(KEY, jnp.ones((4, length, 6)), rate=0.5) for length in (5, 9))
    np.testing.assert_array_equal(long[:, :5], short)


def test_dropout_rate_mean_and_independence_of_rows():
    y = np.asarray(row_dropout(KEY, jnp.ones((400, 500)), rate=0.3))
    dropped = y == 0
    # 200000 draws: five standard errors are 0.005.
    assert abs(dropped.mean() - 0.3) < 0.005
    np.testing.assert_allclose(y[~dropped], 1 / 0.7, rtol=1e-6)
    agreement = (dropped[:-1] == dropped[1:]).mean()
    assert abs(agreement - (0.3**2 + 0.7**2)) < 0.01


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_rate_out_of_range(rate):
    with pytest.raises(ValueError, match="rate"):
        row_dropout(KEY, jnp.ones((2, 2)), rate=rate)


def test_zero_padded_rows_keeps_dtype_and_integers():
    tokens = jnp.array([[4, 5], [6, 7]], jnp.int32)
    cleaned = zero_padded_rows(tokens, jnp.array([True, False]))
    assert cleaned.dtype == jnp.int32
    assert cleaned.tolist() == [[4, 5], [0, 0]]


def test_pooling_ignores_padding():
    x = jax.random.normal(KEY, (2, 4, 3))
    mask = jnp.array([[True, True, False, False], [True, True, True, True]])
    np.testing.assert_allclose(masked_token_mean(x, mask)[0], x[0, :2].mean(0), rtol=1e-6)
    assert last_token(mask).tolist() == [1, 3]


def batch_norm_by_hand(x, epsilon=1e-5):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + epsilon)


@pytest.mark.slow
def test_batch_norm_counts_real_rows_only():
    x = np.asarray(3.0 + jax.random.normal(KEY, (6, 4, 4, 5)), np.float32)
    where = np.array([True, True, False, True, False, True])
    norm = BatchNorm()
    variables = norm.init(KEY, x, train=False, where=None)
    y, updated = norm.apply(variables, x, train=True, where=where, mutable=["batch_stats"])
    np.testing.assert_allclose(y[where], batch_norm_by_hand(x[where]), atol=2e-6)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * x[where].mean((0, 1, 2)), rtol=1e-5)
    expected = 0.9 + 0.1 * x[where].var((0, 1, 2))
    np.testing.assert_allclose(updated["batch_stats"]["variance"], expected, rtol=1e-5)


def test_batch_norm_in_evaluation_uses_running_statistics():
    x = jax.random.normal(KEY, (4, 3))
    norm = BatchNorm()
    variables = norm.init(KEY, x, train=False, where=None)
    variables["batch_stats"] = {"mean": jnp.full(3, 2.0), "variance": jnp.full(3, 4.0)}
    y = norm.apply(variables, x, train=False, where=None)
    np.testing.assert_allclose(y, (x - 2.0) / 2.0, atol=1e-5)


def test_batch_norm_without_mutable_statistics_leaves_them():
    x = jax.random.normal(KEY, (4, 3))
    norm = BatchNorm()
    variables = norm.init(KEY, x, train=True, where=None)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], jnp.zeros(3))
    y = norm.apply(variables, x, train=True, where=None)
    np.testing.assert_allclose(y, batch_norm_by_hand(np.asarray(x)), atol=2e-6)


def test_batch_norm_keeps_the_variance_of_a_channel_far_from_zero():
    x = np.random.default_rng(0).normal(1000.0, 0.1, (64, 1)).astype(np.float32)
    norm = BatchNorm()
    y = norm.apply(norm.init(KEY, x, train=True, where=None), x, train=True, where=None)
    np.testing.assert_allclose(np.std(y), 1.0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shard_map", "shard_map without vma check", "pmap"])
def test_batch_norm_on_devices_with_uneven_padding_is_that_of_one_device(mode):
    x = np.asarray(jax.random.normal(KEY, (16, 2, 3)) * 2 + 5, np.float32)
    where = np.arange(16) < 9  # devices 5 to 7 hold padding only, device 4 one row
    alone, sharded = BatchNorm(), BatchNorm(axis_name="d")
    variables = alone.init(KEY, x, train=True, where=None)

    def run(norm, x, where):
        def loss(params, x):
            y, updated = norm.apply(
                {**variables, "params": params}, x, train=True, where=where, mutable=["batch_stats"]
            )
            y = jnp.where(where[:, None, None], y, 0.0)
            return jnp.sum(jnp.sin(y)), (y, updated["batch_stats"])

        def total(params, x):
            value, aux = loss(params, x)
            return (value if norm.axis_name is None else jax.lax.pmean(value, "d")), aux

        grads, (y, statistics) = jax.grad(total, (0, 1), has_aux=True)(variables["params"], x)
        if norm.axis_name is not None:
            grads = (jax.lax.pmean(grads[0], "d"), grads[1])
        return y, statistics, grads[0], grads[1]

    expected = run(alone, x, where)
    if mode == "pmap":
        split = [v.reshape(8, 2, *v.shape[1:]) for v in (x, where)]
        y, statistics, grads, grads_x = jax.pmap(functools.partial(run, sharded), axis_name="d")(*split)
        y, grads_x = (v.reshape(16, 2, 3) for v in (y, grads_x))
        statistics, grads = jax.tree.map(lambda v: v[0], (statistics, grads))
    else:
        mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
        run_sharded = jax.shard_map(
            functools.partial(run, sharded),
            mesh=mesh,
            in_specs=(P("d"), P("d")),
            out_specs=(P("d"), P(), P(), P("d")),
            check_vma=mode == "shard_map",
        )
        y, statistics, grads, grads_x = jax.jit(run_sharded)(x, where)
    np.testing.assert_allclose(y, expected[0], atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), statistics, expected[1])
    # pmean in the loss divides by the eight devices.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(8 * a, b, atol=1e-5), grads, expected[2])
    # Without the vma check, and under pmap, a psum transposes to a psum: the effect of a row on the losses is then
    # already summed over the devices.
    np.testing.assert_allclose((8 if mode == "shard_map" else 1) * grads_x, expected[3], atol=2e-6)


@pytest.mark.slow
def test_group_norm_needs_no_other_row():
    x = jax.random.normal(KEY, (4, 3, 3, 24))
    norm = Norm("group")
    variables = norm.init(KEY, x, train=True, where=None)
    whole = norm.apply(variables, x, train=True, where=None)
    np.testing.assert_allclose(norm.apply(variables, x[1:2], train=True, where=None), whole[1:2], atol=1e-6)


def test_unknown_norm():
    with pytest.raises(ConfigError, match=r"norm.*group.*layer"):
        Norm("layer")


def scale(**options):
    module = LogitScale(**options)
    return module, module.init(KEY)


def test_learned_temperature_starts_where_it_should():
    module, variables = scale(temperature=0.2)
    temperature, bias = module.apply(variables)
    np.testing.assert_allclose(temperature, 0.2, rtol=1e-6)
    assert bias == 0.0
    assert set(variables["params"]) == {"log_temperature"}
    assert temperature.dtype == bias.dtype == jnp.float32


def test_fixed_temperature_and_no_bias_leave_no_parameter():
    module, variables = scale(temperature=0.9, learned_temperature=False)
    assert not variables.get("params")
    np.testing.assert_allclose(module.apply(variables)[0], 0.9, rtol=1e-6)


def test_learned_bias():
    module, variables = scale(learned_bias=True, bias_init=-7.0)
    assert module.apply(variables)[1] == -7.0
    assert jax.grad(lambda v: module.apply(v)[1])(variables)["params"]["bias"] == 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.6},
        {"temperature": 0.0, "learned_temperature": False},
        {"temperature_min": 0.0},
        {"temperature_min": 0.5, "temperature_max": 0.1},
    ],
)
def test_temperature_out_of_range(options):
    with pytest.raises(ConfigError, match="temperature"):
        LogitScale(**options)


def test_temperature_comes_back_from_a_bound():
    module, _ = scale()
    log_temperature = jnp.log(2.0)
    for _ in range(60):  # gradient descent towards a small temperature
        gradient = jax.grad(lambda p: module.apply({"params": {"log_temperature": p}})[0])(log_temperature)
        assert gradient > 0
        log_temperature -= 0.1 * gradient
    assert module.apply({"params": {"log_temperature": log_temperature}})[0] < 0.45


def test_straight_through_clip_is_identity_inside():
    assert float(straight_through_clip(jnp.float32(0.25), 0.0, 1.0)) == 0.25


def test_clamp_temperature_moves_nothing_else():
    params = {
        "logit_scale": {"log_temperature": jnp.log(1e-6), "bias": jnp.float32(-30.0)},
        "a": {"kernel": jnp.eye(2) * 99},
    }
    clamped = clamp_temperature(params, temperature_min=0.01)
    np.testing.assert_allclose(jnp.exp(clamped["logit_scale"]["log_temperature"]), 0.01, rtol=1e-5)
    assert clamped["logit_scale"]["bias"] == -30.0
    np.testing.assert_array_equal(clamped["a"]["kernel"], params["a"]["kernel"])


def test_decay_mask_goes_by_name():
    params = {
        "encoder": {"layers": {"up": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))}}},
        "tokens": {"embedding": jnp.ones((5, 2))},
        "positions": jnp.ones((4, 2)),
    }
    assert decay_mask(params) == {
        "encoder": {"layers": {"up": {"kernel": True, "bias": False}}},
        "tokens": {"embedding": False},
        "positions": False,
    }


@pytest.mark.slow
def test_l2_normalize_at_zero_and_in_bfloat16():
    z = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    gradient = jax.grad(lambda z: l2_normalize(z).sum())(z)
    assert gradient[0].tolist() == [0.0, 0.0]
    # d(sum of z/|z|)/dz = (1 - u sum(u)) / |z| with u = z / |z|
    np.testing.assert_allclose(gradient[1], (1 - np.array([0.6, 0.8]) * 1.4) / 5, rtol=1e-5)
    unit = l2_normalize(z.astype(jnp.bfloat16))
    assert unit.dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(unit[1]), 1.0, rtol=1e-6)
