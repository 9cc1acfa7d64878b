"""Missing modalities: the placeholder values change nothing and do not count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_jax import evals, models
from alignment_jax.assembly.classifier import balanced_weights
from alignment_jax.assembly.flax_modules import pure_functions
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.classification_objective import Classification, measure, weighted_losses
from alignment_jax.train.evaluation import Classifier, LabelledSplit
from alignment_jax.train.experiment import Model
from alignment_jax.train.state import create_state
from alignment_jax.train.step import AXIS, batch_mesh, make_step, shard_step

pytestmark = pytest.mark.slow

N, CLASSES = 12, 3
WEIGHTS = {"a": 0.9, "b": 0.7, "c": 0.5, "fused": 0.3}
SHAPES = {"a": (8, 8, 3), "b": (6,), "c": (4,)}
# Token ids of text, an image through batch norm and a vector.
ENCODERS = {
    "a": {"name": "convnet", "widths": (4,), "norm": "batch"},
    "b": {"name": "lstm", "embedding_width": 4, "width": 4, "vocab_size": 20, "pooling": "mean"},
    "c": {"name": "mlp", "widths": (5,), "dropout": 0.3},
}


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    found = {name: rng.normal(size=(N, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    found["b"] = rng.integers(1, 20, (N, 6)).astype(np.int32)
    has = {name: rng.random(N) < 0.6 for name in SHAPES}
    has["a"] |= ~(has["b"] | has["c"])  # everyone has something
    return {**found, "label": rng.integers(0, CLASSES, N).astype(np.int32)}, has


def batch_of(values, has, index=None):
    index = np.arange(N) if index is None else index
    where = index >= 0
    batch = {name: value[index] for name, value in values.items()}
    masks = {f"has_{name}": mask[index] & where for name, mask in has.items()}
    return {**batch, **masks, "index": index.astype(np.int32), "where": where}


@pytest.fixture(scope="module", params=["concat", "sum", "gated"])
def model(request):
    return build(request.param)


def build(fusion, axis_name=None):
    encoders = {f"encoder_{name}": dict(encoder) for name, encoder in ENCODERS.items()}
    module = models.build_model("fusion_classifier", axis_name=axis_name, classes=CLASSES, fusion=fusion, **encoders)
    init, apply = pure_functions(module)
    return module, init, apply


@pytest.fixture(scope="module")
def learn(model):
    """(values, masks) -> everything that a step and an evaluation make of a batch."""
    module, init, apply = model
    values, _ = arrays()
    params, state = init(jax.random.key(0), *(values[name] for name in SHAPES))
    objective = Classification(weights=WEIGHTS)

    def loss(params, batch):
        value, outcome = objective(
            apply, params, state, (), batch, step=jnp.int32(0), key=jax.random.key(1), axis_name=None
        )
        return value, outcome

    @jax.jit
    def everything(batch):
        (value, outcome), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
        scores = objective.score(apply, params, state, batch, step=jnp.int32(0), axis_name=None)
        present = {name: batch[f"has_{name}"] for name in SHAPES}
        inputs = [batch[name] for name in SHAPES]
        outputs = module.apply({"params": params, **state}, *inputs, present=present)
        return value, outcome, gradient, scores, outputs

    return everything


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), junk=st.sampled_from([0.0, 1e4, np.inf, np.nan]))
def test_placeholders_of_missing_modalities_change_nothing(learn, seed, junk):
    values, has = arrays(seed)
    other = {name: value.copy() for name, value in values.items()}
    for name, mask in has.items():
        other[name][~mask] = 0 if name == "b" and not np.isfinite(junk) else junk if name != "b" else int(junk) % 20
    one, two = learn(batch_of(values, has)), learn(batch_of(other, has))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert np.isfinite(np.asarray(x, np.float64)).all()
        np.testing.assert_array_equal(x, y)


def test_its_heads_are_silent(learn):
    values, has = arrays()
    value, outcome, _, _, outputs = learn(batch_of(values, has))
    for name, mask in has.items():
        assert not np.asarray(outputs["logits"][name])[~mask].any()
        assert not np.asarray(outputs["features"][name])[~mask].any()
        assert np.asarray(outputs["logits"][name])[mask].any(axis=1).all()
    metrics = outcome.metrics
    assert float(metrics["loss"]) == pytest.approx(float(value))
    assert set(metrics) >= {"accuracy_a", "loss_b", "accuracy_fused"}


def sample_loss(logits, label, **options):
    losses = {name: optax.softmax_cross_entropy_with_integer_labels(own, label) for name, own in logits.items()}
    return weighted_losses(losses, **options)


def test_losses_and_scores_are_of_the_heads_that_are_there():
    rng = np.random.default_rng(0)
    outputs = {
        kind: {name: rng.normal(size=(4, width)).astype(np.float32) for name in WEIGHTS}
        for kind, width in (("logits", CLASSES), ("features", 5))
    }
    label = np.array([0, 1, 2, 1])
    has = {"a": np.array([True, True, False, False]), "b": np.array([True, False, True, False])}  # c is always there
    found = measure(outputs, label, weights=WEIGHTS, present=has)
    loss = sample_loss(outputs["logits"], label, weights=WEIGHTS, present=has)
    for row in range(4):
        heads = [name for name in WEIGHTS if name not in has or has[name][row]]
        one = {kind: {name: parts[name][row : row + 1] for name in heads} for kind, parts in outputs.items()}
        weights = {name: WEIGHTS[name] for name in heads}
        alone = measure(one, label[row : row + 1], weights=weights) if len(heads) > 2 else None
        share = sum(weights.values()) / sum(WEIGHTS.values())
        of_one = sample_loss(one["logits"], label[row : row + 1], weights=weights)
        np.testing.assert_allclose(loss[row], of_one[0], rtol=1e-6)
        np.testing.assert_allclose(found["loss"][row], of_one[0] / share, rtol=1e-6)
        if alone is None:  # a single modality has no pair
            assert float(found["prediction_similarity"][row]) == float(found["feature_similarity"][row]) == 0.0
            continue
        squares = [sum(w**2 for w in each.values()) for each in (weights, WEIGHTS)]
        np.testing.assert_allclose(
            found["gradient"][row], alone["gradient"][0] * (squares[1] / squares[0]) ** 0.5, rtol=1e-5
        )
        for name in ("prediction_similarity", "feature_similarity"):
            np.testing.assert_allclose(found[name][row], alone[name][0], rtol=1e-5)


def train(devices, fusion="gated"):
    axis = None if devices == 1 else AXIS
    _, init, _ = build(fusion)
    _, _, apply = build(fusion, axis)
    values, has = arrays()
    params, model_state = init(jax.random.key(0), *(values[name] for name in SHAPES))
    objective, optimizer = Classification(WEIGHTS, class_weights=(0.5, 2.0, 1.0)), optax.sgd(0.1)
    state = create_state(
        params=params,
        model_state=model_state,
        optimizer=optimizer,
        method_state=objective.init(),
        key=jax.random.key(1),
        averaged=False,
    )
    step = make_step(objective, apply, optimizer, axis_name=axis)
    if devices == 1:
        run = jax.jit(step)
    else:
        mesh = batch_mesh(jax.devices()[:devices])
        run, state = shard_step(step, mesh), jax.device_put(state, jax.NamedSharding(mesh, jax.P()))
    # The rows that have c are on one device only.
    has["c"] = np.arange(N) < 2
    for index in batch_rows(np.arange(N), batch_size=10, devices=devices):
        state, metrics, _ = run(state, batch_of(values, has, index))
    return state, metrics


@pytest.mark.slow
def test_several_devices_mask_as_one():
    state, metrics = train(4)
    state0, metrics0 = train(1)
    for leaf, leaf0 in zip(
        jax.tree.leaves((state.params, state.model_state)),
        jax.tree.leaves((state0.params, state0.model_state)),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, leaf0, rtol=1e-5, atol=1e-5)
    for name in metrics0:
        np.testing.assert_allclose(metrics[name], metrics0[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_batch_in_which_nobody_has_it_leaves_its_statistics(learn, model):
    values, has = arrays()
    has["a"] = np.zeros(N, bool)
    has["b"] = np.ones(N, bool)
    _, outcome, gradient, _, _ = learn(batch_of(values, has))
    _, state = model[1](jax.random.key(0), *(values[name] for name in SHAPES))
    for x, y in zip(jax.tree.leaves(outcome.model_state), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(x, y)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient["encoder_a"]))


def test_a_modality_is_judged_by_the_samples_that_have_it():
    """a is right wherever it is there, and a zero in its place would be class 0."""
    label = np.array([1, 1, 2, 2])
    has = np.array([True, False, True, False])
    right = np.eye(3, dtype=np.float32)[label]
    batch = {"label": label, "where": np.ones(4, bool), "has_a": has}
    predict = lambda batch: {"a": right * has[:, None], "b": np.eye(3)[[0, 1, 0, 2]], "fused": right}  # noqa: E731
    found = evals.classification_metrics(evals.classify_items(predict, [batch]))
    assert (found["accuracy_a"], found["accuracy_b"], found["accuracy"]) == (100.0, 50.0, 100.0)
    none = evals.classify_items(predict, [{**batch, "has_a": np.zeros(4, bool)}])
    assert "accuracy_a" not in evals.classification_metrics(none)
    assert evals.balance(evals.classification_metrics(none))["gap"] == 0.0


def test_an_evaluation_hands_on_the_masks(model):
    module, init, apply = model
    values, has = arrays()
    params, state = init(jax.random.key(0), *(values[name] for name in SHAPES))

    def predict(params, model_state, *inputs, **masks):
        return module.apply({"params": params, **model_state}, *inputs, **masks)["logits"]

    classifier = Classifier(Model(init=init, apply=apply, predict=predict))
    variables = jax.device_put({"params": params, "model_state": state}, jax.devices()[0])
    classified = classifier(variables, LabelledSplit(lambda: iter([batch_of(values, has)])))
    for name, mask in has.items():
        np.testing.assert_array_equal(classified.present[name], mask)
        assert not classified.logits[name][~mask].any()
    assert "fused" not in classified.present


def test_balanced_weights_give_every_class_the_same_share():
    label = np.array([0] * 6 + [1] * 2 + [3])
    weights = np.array(balanced_weights(label, classes=4))
    totals = [weights[label[label == k]].sum() for k in range(4)]
    np.testing.assert_allclose(totals, [3, 3, 0, 3])


def test_class_weights_weigh_the_loss_and_no_score():
    values, has = arrays()
    batch = batch_of(values, has)
    _, init, apply = build("concat")
    params, state = init(jax.random.key(0), *(values[name] for name in SHAPES))
    found = {}
    for name, weights in (("plain", None), ("weighted", (0.0, 3.0, 0.0))):
        objective = Classification(WEIGHTS, class_weights=weights)
        found[name] = objective(
            apply, params, state, (), batch, step=jnp.int32(0), key=jax.random.key(1), axis_name=None
        )
    for name in ("loss", "gradient"):
        np.testing.assert_array_equal(found["plain"][1].per_sample[name], found["weighted"][1].per_sample[name])
    present = {name: jnp.asarray(mask) for name, mask in has.items()}
    outputs, _ = apply(
        params, state, *(values[n] for n in SHAPES), train=True, rows=jnp.arange(N), where=jnp.ones(N, bool),
        key=jax.random.key(1), present=present,
    )  # fmt: skip
    own = sample_loss(outputs["logits"], values["label"], weights=WEIGHTS, present=present)
    np.testing.assert_allclose(found["weighted"][0], 3.0 * np.where(values["label"] == 1, own, 0.0).mean(), rtol=1e-5)
