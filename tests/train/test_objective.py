"""The objective reads the similarities once, for every weighting of the directions."""

import jax
import jax.numpy as jnp
import pytest
from products import products

from alignment_jax import weighting
from alignment_jax.train import objective as objectives

N, D = 256, 32
LARGE = 64 * 64 * D  # of a tile; the model below has no product at all
LOSSES = {"infonce": objectives.infonce_pair_loss, "max_margin": objectives.max_margin_pair_loss}


def gradient(loss, similarity, signal):
    """The gradient of an objective on embeddings that are themselves the parameters, and its arguments' shapes."""
    objective = objectives.Contrastive(
        pair_loss=LOSSES[loss](similarity),
        anchor_scale=(lambda step, stat, outputs: jnp.float32(0.2))
        if loss == "max_margin"
        else objectives.model_temperature,
        weighting=None if signal == "fixed" else weighting.directional(signal),
        weigh_by_loss=signal == "loss",
    )

    def apply(params, model_state, a, b, **options):
        return {"a": params["a"], "b": params["b"], "temperature": params["t"], "bias": jnp.float32(0.0)}, model_state

    def loss_of(params, state, batch):
        return objective(apply, params, {}, state, batch, step=jnp.int32(0), key=jax.random.key(0), axis_name=None)

    z, t = jax.ShapeDtypeStruct((N, D), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    rows = {"where": jax.ShapeDtypeStruct((N,), bool), "index": jax.ShapeDtypeStruct((N,), jnp.int32)}
    arguments = {"a": z, "b": z, "t": t}, jax.eval_shape(objective.init), {"a": z, "b": z, **rows}
    return jax.grad(loss_of, has_aux=True), arguments


@pytest.mark.parametrize("signal", ["fixed", "variance", "entropy", "spread", "loss"])
@pytest.mark.parametrize(
    ("loss", "similarity", "count"),
    [("infonce", "dense", 3), ("infonce", "tiled:64", 4), ("max_margin", "dense", 3), ("max_margin", "tiled:64", 3)],
)
def test_direction_weights_cost_no_second_product(loss, similarity, count, signal):
    function, arguments = gradient(loss, similarity, signal)
    if (loss, similarity) == ("max_margin", "tiled:64") and signal not in ("fixed", "loss"):
        # Directions that weigh differently: the gradient needs their weights, so the tile is recomputed; without
        # statistics only then, in the branch of a conditional that is not counted.
        count += 1
    assert products(jax.make_jaxpr(function)(*arguments).jaxpr, LARGE) == count


@pytest.mark.slow
def test_a_scheduled_temperature_is_not_logged_as_a_margin():
    def schedule(step, stat, outputs):
        return jnp.float32(0.1) + 0 * step

    objective = objectives.Contrastive(
        pair_loss=objectives.infonce_pair_loss("dense"), anchor_scale=schedule, temperature=schedule
    )

    def apply(params, model_state, a, b, **options):
        return {"a": a, "b": b, "temperature": jnp.float32(0.1), "bias": jnp.float32(0.0)}, model_state

    z = jnp.eye(4)
    batch = {"a": z, "b": z, "where": jnp.ones(4, bool), "index": jnp.arange(4)}
    _, found = objective(apply, {}, {}, (), batch, step=jnp.int32(0), key=jax.random.key(0), axis_name=None)
    assert "temperature_mean" in found.metrics
    assert not [name for name in found.metrics if name.startswith("margin")]
