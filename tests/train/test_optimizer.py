"""Learning rates where steps of the schedule meet, and by layer."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax.assembly.optimization import build_optimizer, check_layer_decay
from alignment_jax.core.errors import ConfigError
from alignment_jax.models.tuning import layer_rates
from alignment_jax.train.optimizer import OPTIMIZERS, learning_rate_schedule, make_optimizer


def test_drops_during_the_warm_up_are_not_lost():
    schedule = learning_rate_schedule(
        "staircase", peak=1.0, final=0.0, warmup_steps=10, total_steps=40, drops=[5, 10, 20], drop_factor=0.1
    )
    assert float(schedule(30)) == pytest.approx(1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_scale_each_layers_update(name, accumulate):
    params = {"layers": {"mlp": {"kernel": jnp.ones((3, 2, 2))}}, "head": {"kernel": jnp.ones((2, 2))}}
    gradients = jax.tree.map(lambda leaf: 0.5 * leaf, params)

    @jax.jit
    def updates(params, gradients):
        found = []
        for rates in (None, lambda tree: layer_rates(tree, decay=0.5)):
            optimizer = make_optimizer(
                name, lambda step: 0.1, weight_decay=0.1, mask=lambda tree: jax.tree.map(lambda _: True, tree),
                clip=1.0, accumulate=accumulate, rates=rates,
            )  # fmt: skip
            state = optimizer.init(params)
            for _ in range(2):
                update, state = optimizer.update(gradients, state, params)
            found.append(update)
        return found

    plain, scaled = updates(params, gradients)
    np.testing.assert_array_equal(scaled["head"]["kernel"], plain["head"]["kernel"])
    # Powers of two: the products are exact.
    factors = np.array([0.125, 0.25, 0.5], np.float32)[:, None, None]
    np.testing.assert_array_equal(scaled["layers"]["mlp"]["kernel"], factors * plain["layers"]["mlp"]["kernel"])
    assert np.abs(plain["head"]["kernel"]).min() > 0


def test_the_setting_sets_rates_and_needs_layers():
    section = configs.default().optimizer
    params = {"layers": {"kernel": jnp.ones((2, 1, 1))}, "head": {"kernel": jnp.ones((1, 1))}}
    steps = types.SimpleNamespace(total=10, interval=lambda duration, name: 0)
    found = {}
    for decay in (1.0, 0.5):
        section.layer_decay = decay
        optimizer, _ = build_optimizer(section, steps)
        found[decay] = optimizer.update(params, optimizer.init(params), params)[0]
        check_layer_decay(section, types.SimpleNamespace(init=lambda key: (params, {})), [])
    np.testing.assert_array_equal(found[0.5]["head"]["kernel"], found[1.0]["head"]["kernel"])
    np.testing.assert_array_equal(
        (found[0.5]["layers"]["kernel"] / found[1.0]["layers"]["kernel"]).ravel(), [0.25, 0.5]
    )
    with pytest.raises(ConfigError, match=r"optimizer\.layer_decay.*0\.5"):
        check_layer_decay(section, types.SimpleNamespace(init=lambda key: (params["head"], {})), [])
