"""Every balancing method: three training steps equal the paper's formula in float64, however the batch is sharded.

A new method adds one row to ROWS.
"""

import dataclasses
import functools
from collections.abc import Callable

import balance_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alignment_jax import balance
from alignment_jax.assembly.balance import BALANCE
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.classification_objective import Classification
from alignment_jax.train.encoder_parameters import encoder_paths
from alignment_jax.train.state import create_state
from alignment_jax.train.step import AXIS, batch_mesh, make_step, shard_step

N, CLASSES, STEPS, SIZE = 32, 3, 3, 64
WIDTHS = {"a": 5, "b": 4, "c": 6}
KEY = 7


@dataclasses.dataclass(frozen=True)
class Row:
    """`build`: modalities -> method; `step`: its reference; `balanced`: plain training where modalities are equal."""

    build: Callable
    step: Callable
    decisions: bool = False
    balanced: bool = False


ROWS = {
    "none": Row(lambda names: balance.BalanceMethod(), reference.plain),
    "ogm_ge": Row(lambda names: balance.ogm_ge(alpha=0.7, noise=False), reference.ogm, balanced=True),
    "agm": Row(lambda names: balance.agm(names, alpha=0.2), reference.agm, balanced=True),
    "pmr": Row(
        lambda names: balance.pmr(
            dict.fromkeys(names, 4), classes=CLASSES, alpha=0.8, decay=0.7, entropy_weight=0.3, entropy_steps=2
        ),
        reference.pmr,
        balanced=True,
    ),
    "gradient_blending": Row(
        lambda names: balance.gradient_blending(weights_of(names), interval=1, share=0.3, seed=reference.SHARE_SEED),
        reference.gradient_blending,
    ),
    "mmpareto": Row(lambda names: balance.mmpareto(rescale=1.3), reference.mmpareto),
    "qmf": Row(lambda names: balance.qmf(names, size=SIZE, rank_weight=0.6), reference.qmf, decisions=True),
    "modality_dropout": Row(lambda names: balance.modality_dropout(rate=0.4), reference.modality_dropout),
    "unimodal_pretraining": Row(lambda names: balance.unimodal_pretraining(steps=1), reference.unimodal_pretraining),
}
every_method = pytest.mark.parametrize("name", ROWS)


def weights_of(names):
    return dict.fromkeys((*names, "fused"), 1.0)


def parameters(names, *, equal=False):
    rng = np.random.default_rng(1)

    def array(*shape):
        return rng.normal(size=shape).astype(np.float32)

    first = {"w": array(WIDTHS["a"], 4)}, {"v": array(4, CLASSES)}, array(4, CLASSES)
    nets, heads, blocks = {}, {}, []
    for m in names:
        nets[f"encoder_{m}"] = first[0] if equal else {"w": array(WIDTHS[m], 4)}
        heads[m] = first[1] if equal else {"v": array(4, CLASSES)}
        blocks.append(first[2] if equal else array(4, CLASSES))
    fused = {"v": np.concatenate(blocks), "bias": array(CLASSES) * (not equal)}
    return {"net": nets, "heads": heads, "fused": fused}


def batches(names, *, masks=False, equal=False):
    rng = np.random.default_rng(2)
    found = []
    for _ in range(STEPS):
        where = np.ones(N, bool)
        batch = {m: rng.normal(size=(N, WIDTHS["a" if equal else m])).astype(np.float32) for m in names}
        batch = dict.fromkeys(names, batch["a"]) if equal else batch
        index = rng.permutation(SIZE)[:N].astype(np.int32)
        if masks:
            where[-5:] = False
            for k, m in enumerate(names):
                # 30 % of the rows lack a modality, never the same one; on eight devices one shard has no row at all.
                has = (np.arange(N) + k) % 10 >= (3 if k < 2 else 1)
                batch[f"has_{m}"] = (has if len(names) > 2 or k == 0 else np.ones(N, bool)) & where
                batch[m] = np.where(batch[f"has_{m}"][:, None], batch[m], np.nan)
        label = rng.integers(0, CLASSES, N).astype(np.int32)
        found.append({**batch, "label": label * where, "index": np.where(where, index, -1), "where": where})
    return found


def apply_of(names, decisions):
    """A linear model of arrays alone: encoders, heads and a fused head on the features, or on the decisions."""

    def apply(params, model_state, *inputs, train, rows, where, key, present=None, subsets=False):
        def clean(x, m):
            mask = where if present is None or m not in present else where & present[m]
            return jnp.where(mask[:, None], x, 0.0)

        h = {m: clean(clean(x, m) @ params["net"][f"encoder_{m}"]["w"], m) for m, x in zip(names, inputs, strict=True)}
        logits = {m: clean(h[m] @ params["heads"][m]["v"], m) for m in names}

        def fused(kept):
            parts = [h[m] if m in kept else jnp.zeros_like(h[m]) for m in names]
            return jnp.concatenate(parts, 1) @ params["fused"]["v"] + params["fused"]["bias"]

        logits["fused"] = balance.confidence_fusion(logits, present=present) if decisions else fused(names)
        outputs = {"logits": logits, "features": {**h, "fused": jnp.concatenate([*h.values()], 1)}}
        if subsets:
            sets = [(m,) for m in names] + ([("a", "b"), ("a", "c"), ("b", "c")] if len(names) > 2 else [])
            outputs["subsets"] = {kept: fused(kept) for kept in sets}
        return outputs, model_state

    return apply


def start(method, params):
    return create_state(
        params=jax.tree.map(jnp.asarray, params),
        model_state={},
        optimizer=optax.sgd(reference.RATE),
        method_state=method.init(),
        key=jax.random.key(KEY),  # a new one: the step donates its state
        averaged=False,
    )


@functools.cache
def compiled(name, names, devices, way="shard_map"):
    row = ROWS[name]
    method = row.build(names)
    axis = None if devices == 1 else AXIS
    objective = Classification(weights=weights_of(names), balance=method)
    step = make_step(objective, apply_of(names, row.decisions), optax.sgd(reference.RATE), axis_name=axis)
    if devices == 1:
        return method, jax.jit(step)
    return method, shard_step(step, batch_mesh(jax.devices()[:devices]), check_vma=way == "shard_map")


def train(name, names, data, *, devices=1, way="shard_map", equal=False):
    method, run = compiled(name, names, devices, way)
    state = start(method, parameters(names, equal=equal))
    if devices > 1:
        mesh = batch_mesh(jax.devices()[:devices])
        state = jax.device_put(state, jax.NamedSharding(mesh, jax.P()))
    history = []
    for batch in data:
        state, metrics, _ = run(state, batch)
        history.append((jax.device_get(state.params), jax.device_get(metrics)))
    return history, jax.device_get(state.method_state)


def expected(name, names, data):
    """The parameters after each step, in float64."""
    row, params = ROWS[name], jax.tree.map(np.float64, parameters(names))
    state, found = None, []
    for t, batch in enumerate(data):
        step = reference.Step(params, {**batch, **{f"encoder_{m}": batch[m] for m in names}}, weights_of(names))
        step.index = batch["index"]
        step.held = np.asarray(balance.held_out_rows(batch["index"], share=0.3, seed=reference.SHARE_SEED))
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(KEY), t), 1)
        has = {m: step.has[f"encoder_{m}"] for m in names}
        kept = balance.drop_modalities(key, jnp.arange(N), has, rate=0.4)
        step.kept = {f"encoder_{m}": np.asarray(mask) for m, mask in kept.items()}
        gradients, state = row.step(step, state, t)
        params = jax.tree.map(lambda p, g: p - reference.RATE * g, params, gradients)
        found.append(params)
    return found


def same(found, wanted):
    # Logits are sums of ten products below 4, gradients of 32 rows; three steps amplify their float32 roundoff.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-4), found, wanted)


def test_the_table_holds_every_method():
    assert set(ROWS) == set(BALANCE)


@pytest.mark.costly
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")], ids="".join)
@every_method
def test_steps_equal_the_formula(name, names, masks):
    data = batches(names, masks=masks)
    history, _ = train(name, names, data)
    for (params, metrics), wanted in zip(history, expected(name, names, data), strict=True):
        same(params, wanted)
        assert all(np.isfinite(value) for value in metrics.values())
    if name != "none":  # the method changes something
        plain = train("none", names, data)[0][-1][0]
        difference = jax.tree.map(lambda x, y: np.abs(x - y).max(), plain["net"], history[-1][0]["net"])
        assert max(jax.tree.leaves(difference)) > 1e-3


@pytest.mark.costly
@pytest.mark.parametrize(("devices", "way"), [(8, "shard_map"), (2, "shard_map, no check")])
@every_method
def test_devices_train_as_one(name, devices, way):
    names = ("a", "b", "c")
    data = batches(names, masks=True)
    one, state = train(name, names, data)
    several, other = train(name, names, data, devices=devices, way=way)
    same([x for x, _ in several], [x for x, _ in one])
    same(other, state)
    for (_, found), (_, wanted) in zip(several, one, strict=True):
        assert set(found) == set(wanted)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.balanced])
def test_equal_modalities_are_left_alone(name):
    data = batches(("a", "b"), equal=True)
    # The fused head starts without a bias, so that both contributions are equal.
    found, plain = (train(which, ("a", "b"), data[:2], equal=True)[0] for which in (name, "none"))
    same(found[0][0], plain[0][0])
    same(found[1][0], plain[1][0])


@every_method
def test_a_state_is_a_tree_of_arrays_of_one_type_for_good(name):
    names = ("a", "b")
    method, run = compiled(name, names, 1)
    before = start(method, parameters(names))
    after, _, _ = run(start(method, parameters(names)), batches(names)[0])
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), state.method_state) for state in (before, after)]
    assert shapes[0] == shapes[1]


def test_noise_has_the_spread_of_each_array_and_is_the_same_on_every_device():
    like = {"w": 3.0 * np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32), "b": np.ones(4, np.float32)}
    noisy = balance.add_gradient_noise(jax.random.key(0), jax.tree.map(np.zeros_like, like), like=like)
    assert np.std(noisy["w"]) == pytest.approx(np.std(like["w"]), rel=0.02)
    assert abs(np.mean(noisy["w"])) < 0.05
    np.testing.assert_array_equal(noisy["b"], np.zeros(4))


def test_dropped_modalities_leave_one_and_follow_the_rate():
    n = 20_000
    rng = np.random.default_rng(0)
    has = {m: rng.random(n) < 0.7 for m in "abc"}
    kept = balance.drop_modalities(jax.random.key(0), jnp.arange(n), has, rate=0.4)
    stacked, there = (np.stack([np.asarray(x[m]) for m in "abc"]) for x in (kept, has))
    assert not (stacked & ~there).any()
    np.testing.assert_array_equal(stacked.any(0), there.any(0))
    whole = there.all(0)
    # 0.6, and a third of the samples whose three modalities are all drawn.
    np.testing.assert_allclose(stacked[:, whole].mean(1), 0.6 + 0.4**3 / 3, atol=0.02)


def test_a_model_without_the_encoder_of_a_modality_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"encoder_b") as error:
        encoder_paths({"net": {"encoder_a": {"w": 1}, "encoder_b": {}}}, ("a", "b"))
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"two modules encoder_a"):
        encoder_paths({"heads": {"encoder_a": {"v": 1}}, "net": {"encoder_a": {"w": 1}}}, ("a",))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: balance.ogm_ge(alpha=-1.0), "alpha"),
        (lambda: balance.agm(("a", "b"), alpha=-1.0), "alpha"),
        (lambda: balance.pmr({"a": 2, "b": 2}, classes=2, decay=1.0), "decay"),
        (lambda: balance.mmpareto(rescale=0.0), "rescale"),
        (lambda: balance.modality_dropout(rate=1.0), "rate"),
        (lambda: balance.gradient_blending({"a": 1.0, "fused": 1.0}, interval=0), "interval"),
        (lambda: balance.qmf(("a", "b"), size=3, rank_weight=-1.0), "rank_weight"),
        (lambda: balance.unimodal_pretraining(steps=-1), "steps"),
        (lambda: balance.blending_weights(np.zeros((1, 2)), np.zeros((1, 2))), "train"),
        (lambda: balance.blending_weights(np.zeros((2, 2)), np.zeros((3, 2))), "held_out"),
    ],
)
def test_arguments_out_of_range_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
