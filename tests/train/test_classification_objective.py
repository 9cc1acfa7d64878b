"""The classification objective: its scores equal those of `sampling`, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alignment_jax import models, sampling
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.classification_objective import Classification, measure
from alignment_jax.train.state import create_state
from alignment_jax.train.step import AXIS, batch_mesh, make_step, shard_step

pytestmark = pytest.mark.costly

N, CLASSES = 21, 4
WEIGHTS = {"a": 0.9, "b": 0.9, "c": 0.5, "fused": 0.1}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(N, d)).astype(np.float32) for name, d in (("a", 5), ("b", 4), ("c", 3))}
    return {**inputs, "label": rng.integers(0, CLASSES, N).astype(np.int32)}


def module(modalities=3, dropout=0.0, fusion="concat"):
    encoders = {f"encoder_{m}": {"name": "mlp", "widths": (6,), "dropout": dropout} for m in "abc"[:modalities]}
    return models.build_model("fusion_classifier", classes=CLASSES, fusion=fusion, **encoders)


def apply_of(model):
    def apply(params, model_state, *inputs, train, rows, where, key):
        rngs = {} if key is None else {"dropout": key}
        return model.apply({"params": params}, *inputs, train=train, rows=rows, where=where, rngs=rngs), model_state

    return apply


def weights_of(modalities):
    return {name: WEIGHTS[name] for name in (*"abc"[:modalities], "fused")}


def batch_of(arrays, index, modalities):
    where = index >= 0
    batch = {name: np.where(where[:, None], arrays[name][index], np.nan) for name in "abc"[:modalities]}
    return {**batch, "label": arrays["label"][index] * where, "index": index.astype(np.int32), "where": where}


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [2, 3])
def test_measurements_are_those_of_the_sampling_room(arrays, modalities):
    model, weights = module(modalities), weights_of(modalities)
    inputs = [arrays[name] for name in "abc"[:modalities]]
    outputs = model.apply(jax.jit(model.init)(jax.random.key(0), *inputs), *inputs)
    found = measure(outputs, arrays["label"], weights=weights)
    logits, features = ([np.asarray(outputs[kind][name]) for name in weights] for kind in ("logits", "features"))
    factors = list(weights.values())
    expected = {
        "loss": sampling.cross_entropy(logits, arrays["label"], weights=factors),
        "gradient": sampling.gradient_magnitude(logits, arrays["label"], weights=factors, features=features),
        "prediction_similarity": sampling.prediction_similarity(logits[:-1]),
        "feature_similarity": sampling.feature_similarity(features[:-1]),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["concat", "sum", "gated"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_gradient_magnitude_is_that_of_the_heads_parameters(arrays, modalities, fusion):
    model, weights = module(modalities, fusion=fusion), weights_of(modalities)
    inputs = [arrays[name] for name in "abc"[:modalities]]
    params = jax.jit(model.init)(jax.random.key(0), *inputs)["params"]

    def loss(heads, inputs, label):
        outputs = model.apply({"params": {**params, **heads}}, *(x[None] for x in inputs))
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return sum(w * cross_entropy(outputs["logits"][name][0], label) for name, w in weights.items())

    heads = {name: value for name, value in params.items() if name.startswith("head_")}
    gradients = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))(heads, inputs, arrays["label"])
    expected = np.sqrt(sum(np.square(leaf).reshape(N, -1).sum(1) for leaf in jax.tree.leaves(gradients)))
    run = jax.jit(lambda *inputs: measure(model.apply({"params": params}, *inputs), arrays["label"], weights=weights))
    np.testing.assert_allclose(run(*inputs)["gradient"], expected, rtol=1e-5)


@pytest.mark.slow
def test_features_of_different_widths_have_no_similarity():
    logits = {name: jnp.zeros((2, 3)) for name in ("a", "b", "fused")}
    features = {"a": jnp.zeros((2, 3)), "b": jnp.zeros((2, 4)), "fused": jnp.zeros((2, 7))}
    assert "feature_similarity" not in measure(
        {"logits": logits, "features": features}, jnp.zeros(2, jnp.int32), weights=weights_of(2)
    )


def train(arrays, devices, modalities=3):
    model = module(modalities, dropout=0.3)
    inputs = [arrays[name] for name in "abc"[:modalities]]
    objective, optimizer = Classification(weights=weights_of(modalities)), optax.sgd(0.1, momentum=0.9)
    state = create_state(
        params=jax.jit(model.init)(jax.random.key(0), *inputs)["params"],
        model_state={},
        optimizer=optimizer,
        method_state=objective.init(),
        key=jax.random.key(1),
        averaged=False,
    )
    axis = None if devices == 1 else AXIS
    step = make_step(objective, apply_of(model), optimizer, axis_name=axis)
    if devices == 1:
        run = jax.jit(step)
    else:
        mesh = batch_mesh(jax.devices()[:devices])
        run, state = shard_step(step, mesh), jax.device_put(state, jax.NamedSharding(mesh, jax.P()))
    for index in batch_rows(np.arange(N), batch_size=10, devices=devices):
        state, metrics, per_sample = run(state, batch_of(arrays, index, modalities))
    return state, metrics, per_sample


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_several_devices_train_as_one(arrays, devices):
    state, metrics, per_sample = train(arrays, devices)
    state0, metrics0, per_sample0 = train(arrays, 1)
    for leaf, leaf0 in zip(jax.tree.leaves(state.params), jax.tree.leaves(state0.params), strict=True):
        np.testing.assert_allclose(leaf, leaf0, rtol=1e-5, atol=1e-6)
    for name in metrics0:
        np.testing.assert_allclose(metrics[name], metrics0[name], rtol=1e-5, atol=1e-5, err_msg=name)
    kept, kept0 = np.asarray(per_sample["where"]), np.asarray(per_sample0["where"])
    for name in per_sample0:
        np.testing.assert_allclose(
            np.asarray(per_sample[name])[kept], np.asarray(per_sample0[name])[kept0], rtol=1e-5, atol=1e-5, err_msg=name
        )


@pytest.mark.slow
def test_scoring_changes_nothing_and_drops_nothing(arrays):
    model = module(2, dropout=0.5)
    inputs = [arrays["a"], arrays["b"]]
    params = jax.jit(model.init)(jax.random.key(0), *inputs)["params"]
    index = np.array([3, 5, -1, 7])
    found = Classification(weights=weights_of(2)).score(
        apply_of(model), params, {}, batch_of(arrays, index, 2), step=jnp.int32(0), axis_name=None
    )
    expected = measure(model.apply({"params": params}, *inputs), arrays["label"], weights=weights_of(2))
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[name])[[0, 1, 3]], np.asarray(value)[[3, 5, 7]], rtol=1e-5)
    assert found["where"].tolist() == [True, True, False, True]
