"""An evaluation on several devices has the bits of one device, and gives each device batches of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.data import padded_rows
from alignment_jax.metrics.ranks import TILE
from alignment_jax.train.evaluation import Classifier, Embedder, LabelledSplit, RetrievalEvaluation
from alignment_jax.train.experiment import EvaluationSplit, Model

SIZE, WIDTH = 16, 24


def batches_of(items, **columns):
    rows = padded_rows(np.arange(len(items)), SIZE)
    return [
        {"a": np.where(row[:, None] >= 0, items[row], 0), "where": row >= 0, **{k: x[row] for k, x in columns.items()}}
        for row in rows
    ]


def items_of(items):
    def read(part=(0, 1)):
        batches = [(batch["a"], batch["where"]) for batch in batches_of(items)]
        return iter(batches[len(batches) * part[0] // part[1] : len(batches) * (part[0] + 1) // part[1]])

    return read


class Encoder:
    """tanh(x w), which records the shape that one device gets."""

    def __init__(self):
        self.shapes = set()

    def __call__(self, params, model_state, x):
        self.shapes.add(x.shape)
        return jnp.tanh(x @ params["w"])

    @property
    def model(self):
        return Model(init=None, apply=None, encode_a=self, encode_b=self)


def split_of(rng, n, m):
    a, b = (rng.normal(size=(k, WIDTH)).astype(np.float32) for k in (n, m))
    return EvaluationSplit(items_of(a), items_of(b), rng.integers(0, n, size=m))


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 3, 8, 11])
def test_embeddings_of_several_devices_have_the_bits_of_one(batches):
    rng = np.random.default_rng(batches)
    split, encoder = split_of(rng, SIZE * batches - 5, 40), Encoder()
    variables = {"params": {"w": rng.normal(size=(WIDTH, 32)).astype(np.float32)}, "model_state": {}}
    variables = jax.device_put(variables)
    one = Embedder(encoder.model, devices=jax.devices()[:1])(variables, split)
    everywhere = jax.device_put(variables, jax.NamedSharding(jax.make_mesh((8,), ("x",)), jax.P()))
    for placed in (variables, everywhere):
        found = Embedder(encoder.model, devices=jax.devices())(placed, split)
        np.testing.assert_array_equal(found.a, one.a)
        np.testing.assert_array_equal(found.b, one.b)
    assert encoder.shapes == {(SIZE, WIDTH)}  # never the rows of several devices
    assert found.devices == tuple(jax.devices())


@pytest.mark.slow
def test_seeds_on_several_devices_have_the_bits_of_one_device():
    rng = np.random.default_rng(2)
    split = split_of(rng, 120, 200)
    seeds = [{"params": {"w": rng.normal(size=(WIDTH, 8)).astype(np.float32)}, "model_state": {}} for _ in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds)
    embedder = Embedder(Encoder().model, devices=jax.devices())
    found = embedder.embedded_seeds(stacked, split)
    one = Embedder(Encoder().model, devices=jax.devices()[:1]).embedded_seeds(stacked, split)
    for variables, got, wanted in zip(seeds, found, one, strict=True):
        assert got.devices == tuple(jax.devices())
        for side in ("a", "b"):
            np.testing.assert_array_equal(getattr(got, side), getattr(wanted, side))
        # Another program: each tanh is of a sum of 24 products of numbers around 1, off by at most γ(24) 24 = 4e-5.
        np.testing.assert_allclose(got.a, embedder(variables, split).a, atol=8e-5)


def test_a_classifier_on_several_devices_has_the_logits_of_one():
    rng = np.random.default_rng(0)
    items, label = rng.normal(size=(SIZE * 9 + 3, WIDTH)).astype(np.float32), rng.integers(0, 4, size=SIZE * 9 + 3)

    def predict(params, model_state, a, b=None, **masks):
        return {"a": a @ params["w"]}

    variables = {"params": {"w": jax.device_put(rng.normal(size=(WIDTH, 4)).astype(np.float32))}, "model_state": {}}
    split = LabelledSplit(lambda part=(0, 1): iter(batches_of(items, b=items, label=label)))
    model = Model(init=None, apply=None, predict=predict)
    one, found = (Classifier(model, devices=jax.devices()[:k])(variables, split) for k in (1, 8))
    np.testing.assert_array_equal(found.logits["a"], one.logits["a"])
    np.testing.assert_array_equal(found.label, label)


@pytest.mark.slow
def test_the_log_of_a_large_split_shares_its_ranks():
    """The metrics of a split of latents with more than one tile are those of the program for one device."""
    rng = np.random.default_rng(0)
    split = split_of(rng, TILE + 100, TILE + 300)
    arrays = tuple(np.concatenate([x[where] for x, where in items()]) for items in (split.items_a, split.items_b))
    split = EvaluationSplit(split.items_a, split.items_b, split.b_to_a, latents=lambda: (arrays[0][None], arrays[1]))
    variables = {"params": {"w": jax.device_put(np.eye(WIDTH, dtype=np.float32))}, "model_state": {}}
    model = Encoder().model
    one, found = (
        RetrievalEvaluation(model, devices=jax.devices()[:k]).evaluate_for_log(variables, split) for k in (1, 8)
    )
    assert found.keys() == one.keys()
    for key, value in one.items():
        assert found[key] == pytest.approx(value, rel=1e-5), key
