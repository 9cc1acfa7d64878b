"""The classification objective and evaluation against the BSS scripts (golden bss_train_eval.npz, bss_scores.npz)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import evals
from alignment_jax.train.classification_objective import Classification, measure

pytestmark = pytest.mark.costly

DATA = pathlib.Path(__file__).parent / "data"
SETS = ("cremad", "ks", "vggsound", "twitter", "sarcasm", "nvgesture")
HEADS = {"a": "m1", "b": "m2", "c": "m3", "fused": "mm"}


@pytest.fixture(scope="module")
def golden():
    with np.load(DATA / "bss_train_eval.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def case(golden, name):
    logits = {head: golden[key] for head, m in HEADS.items() if (key := f"{name}_logits_{m}") in golden}
    cremad = name == "cremad"
    weights = {head: (0.1 if head == "fused" else 0.9) if cremad else 1.0 for head in logits}
    return logits, golden[f"{name}_labels"], weights, ("a", "b") if cremad else None


def loss_of(logits, labels, weights):
    """The objective's loss as a function of the logits, through a model whose parameters they are."""
    n = len(labels)
    padding = ((0, 3), (0, 0))

    def apply(params, model_state, *inputs, train, rows, where, key):
        padded = jax.tree.map(lambda x: jnp.pad(x, padding, constant_values=jnp.nan), params)
        return {"logits": padded, "features": {head: jnp.ones((n + 3, 2)) for head in params}}, model_state

    batch = {
        "a": np.zeros(n + 3),
        "b": np.zeros(n + 3),
        "index": np.arange(n + 3),
        "where": np.arange(n + 3) < n,
        "label": np.pad(labels, (0, 3)),
    }

    def loss(params):
        return Classification(weights=weights)(
            apply, params, {}, (), batch, step=jnp.int32(0), key=jax.random.key(0), axis_name=None
        )

    return jax.value_and_grad(loss, has_aux=True)(logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_training_loss_and_gradients(name, golden):
    logits, labels, weights, _ = case(golden, name)
    (loss, outcome), gradients = loss_of(logits, labels, weights)
    assert float(loss) == pytest.approx(float(golden[f"{name}_train_loss"]), rel=2e-6)
    assert float(outcome.metrics["pairs"]) == len(labels)
    for head, gradient in gradients.items():
        if f"{name}_grad_{HEADS[head]}" in golden:
            np.testing.assert_allclose(gradient, golden[f"{name}_grad_{HEADS[head]}"], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", SETS)
def test_evaluation(name, golden):
    logits, labels, _, heads = case(golden, name)
    found = evals.classification_metrics(evals.SplitLogits(logits, labels), heads=heads)
    second = "macro_f1" if name in ("twitter", "sarcasm", "nvgesture") else "mAP"
    assert found["accuracy"] == pytest.approx(100 * float(golden[f"{name}_eval_acc"]), abs=1e-9)
    assert found[second] == pytest.approx(100 * float(golden[f"{name}_eval_metric2"]), abs=1e-9)
    assert set(found) == {"accuracy", "macro_f1", "mAP", *(f"accuracy_{head}" for head in logits)}


@pytest.mark.parametrize("name", SETS)
def test_what_is_measured_of_every_sample(name):
    with np.load(DATA / "bss_scores.npz", allow_pickle=False) as arrays:
        scores = dict(arrays)
    three = name == "nvgesture"
    logits = {head: scores[f"logits_{m}"] for head, m in HEADS.items() if three or m != "m3"}
    weights = dict.fromkeys(logits, 1.0)
    if name == "cremad":
        weights = {"a": 0.9, "b": 0.9, "fused": 0.1}
    found = measure({"logits": logits, "features": logits}, scores["labels"], weights=weights)
    np.testing.assert_allclose(found["loss"], scores[f"{name}_spl_loss"], rtol=2e-6)
    np.testing.assert_allclose(found["prediction_similarity"], scores[f"{name}_spl_similarity"], rtol=2e-6)
