"""One per-device step, run in every way: the parameters must come out the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alignment_jax import models, schedules, weighting
from alignment_jax.core import l2_normalize
from alignment_jax.train import objective as objectives
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.gradient_cache import in_micro_batches
from alignment_jax.train.perturbation import latent_perturbation
from alignment_jax.train.state import create_state
from alignment_jax.train.step import AXIS, batch_mesh, make_step, pmap_step, shard_step

pytestmark = pytest.mark.costly

N, DA, DB, BATCH, STEPS = 48, 6, 5, 14, 3  # 14 divides by neither 4 nor 8 devices: batches are padded


def adapters_apply(module):
    def apply(params, model_state, a, b, *, train, rows, where, key):
        outputs = module.apply({"params": params}, a, b, train=train, rows=rows, where=where, rngs={"dropout": key})
        return outputs, model_state

    return apply


@pytest.fixture(scope="module")
def latents():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, DA)).astype(np.float32), rng.normal(size=(N, DB)).astype(np.float32)


def objective_of(method):
    strength = objectives.model_temperature
    if method in ("mm_ts", "all"):
        modulated = schedules.mm_ts(alpha=0.02, period=5, min_shift=0.05, max_shift=0.2, min_size=1, max_size=9)
        strength = lambda step, stat, outputs: modulated(step, stat)  # noqa: E731
    perturb = {
        "noise": latent_perturbation(sigma=0.1),
        "fusemix": latent_perturbation(fusemix=1.0),
        "all": latent_perturbation(sigma=0.1, fusemix=1.0),
    }.get(method)
    losses = {"max_margin": objectives.max_margin_pair_loss(), "sigmoid": objectives.sigmoid_pair_loss()}
    return objectives.Contrastive(
        pair_loss=losses.get(method, objectives.infonce_pair_loss()),
        anchor_scale=(lambda step, stat, outputs: jnp.float32(0.2)) if method == "max_margin" else strength,
        temperature=objectives.model_temperature if method == "max_margin" else strength,
        smoothing=(lambda step: jnp.float32(0.1)) if method in ("smoothing", "all") else lambda step: jnp.float32(0.0),
        perturb=perturb,
        weighting=weighting.directional("variance", decay=0.5) if method in ("vals", "all") else None,
    )


# "all": VALS, smoothing, MM-TS, noise and FuseMix at once. Each alone on eight devices: test_composition.
METHODS = ("all", "max_margin", "sigmoid")
WAYS = [("shard_map", devices) for devices in (1, 2, 4, 8)]
WAYS += [("shard_map, no check", 4), ("pmap", 2), ("pmap", 8)]


_TRAINED = {}


def train(method, latents, *, way, devices, micro_batch=0):
    """State, metrics and per-sample results after STEPS steps; each training is compiled and run once."""
    training = (method, way, devices, micro_batch)
    if training not in _TRAINED:
        _TRAINED[training] = _train(method, latents, way=way, devices=devices, micro_batch=micro_batch)
    return _TRAINED[training]


def _train(method, latents, *, way, devices, micro_batch):
    a, b = latents
    module = models.Adapters(dim=4, blocks_a=1, blocks_b=0, expansion=2, dropout=0.3, learned_bias=method == "sigmoid")
    params = jax.jit(module.init)(jax.random.key(0), a[:2], b[:2])["params"]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    objective = objective_of(method)
    axis = None if way == "plain" else AXIS
    apply = adapters_apply(module)
    if micro_batch:
        apply = in_micro_batches(apply, micro_batch=micro_batch)
    step = make_step(objective, apply, optimizer, axis_name=axis, average_decay=0.9)
    state = create_state(
        params=params,
        model_state={},
        optimizer=optimizer,
        method_state=objective.init(),
        key=jax.random.key(1),
        averaged=True,
    )
    order = np.random.default_rng(1).permutation(N)
    rows = batch_rows(order, batch_size=BATCH, devices=devices, halves=method in ("fusemix", "all"))
    chosen = jax.devices()[:devices]
    if way == "plain":
        run = jax.jit(step)
    elif way == "pmap":
        run, state = pmap_step(step, chosen), jax.tree.map(lambda x: jnp.stack([x] * devices), state)
        state = jax.device_put(state, jax.NamedSharding(batch_mesh(chosen), jax.P(AXIS)))
    else:
        mesh = batch_mesh(chosen)
        run = shard_step(step, mesh, check_vma=way == "shard_map")
        # Placed as the step leaves it, as in a run; otherwise the first step would compile separately.
        state = jax.device_put(state, jax.NamedSharding(mesh, jax.P()))
    for index in rows[:STEPS]:
        where = index >= 0
        batch = {
            "a": np.where(where[:, None], a[index], np.nan).astype(np.float32),  # padding may hold anything
            "b": np.where(where[:, None], b[index], np.nan).astype(np.float32),
            "index": index.astype(np.int32),
            "where": where,
            "stat": np.where(where, index % 9 + 1, 0).astype(np.float32),
        }
        if way == "pmap":
            batch = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        state, metrics, per_sample = run(state, batch)
    if way == "pmap":
        state, metrics = jax.tree.map(lambda x: x[0], (state, metrics))
        per_sample = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), per_sample)
    return state, metrics, per_sample


def reference(method, latents):
    return train(method, latents, way="plain", devices=1)


def assert_same(found, expected):
    (state, metrics, per_sample), (state0, metrics0, per_sample0) = found, expected
    for leaf, leaf0 in zip(
        jax.tree.leaves((state.params, state.average, state.method_state)),
        jax.tree.leaves((state0.params, state0.average, state0.method_state)),
        strict=True,
    ):
        # Adam divides by the root of tiny second moments: rounding in a gradient shows at the learning rate's scale.
        np.testing.assert_allclose(leaf, leaf0, rtol=2e-5, atol=2e-5)
    assert int(state.step) == STEPS
    assert int(state.bad_step) == -1
    for name in metrics0:
        np.testing.assert_allclose(metrics[name], metrics0[name], rtol=2e-5, atol=2e-5, err_msg=name)
    kept, kept0 = np.asarray(per_sample["where"]), np.asarray(per_sample0["where"])
    for name in ("index", "loss", "similarity"):
        np.testing.assert_allclose(
            np.asarray(per_sample[name])[kept], np.asarray(per_sample0[name])[kept0], rtol=2e-5, atol=2e-5, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_eight_devices_train_as_one(method, latents):
    assert_same(train(method, latents, way="shard_map", devices=8), reference(method, latents))


@pytest.mark.slow
@pytest.mark.parametrize(("way", "devices"), WAYS)
def test_every_way_to_run_the_step_gives_the_same(way, devices, latents):
    assert_same(train("all", latents, way=way, devices=devices), reference("all", latents))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sigmoid", "all"])
def test_micro_batches_train_as_whole_batches(method, latents):
    # 14 rows in pieces of 4: the last one is padded
    assert_same(train(method, latents, way="plain", devices=1, micro_batch=4), reference(method, latents))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "micro_batch", "way"),
    [("all", 3, "shard_map"), ("all", 1, "shard_map, no check"), ("all", 1, "pmap")],
)
def test_micro_batches_train_the_same_on_four_devices(method, micro_batch, way, latents):
    assert_same(train(method, latents, way=way, devices=4, micro_batch=micro_batch), reference(method, latents))


class _Exploding:
    """An objective whose loss turns NaN at one step; its gradient is 1 otherwise."""

    def __init__(self, bad):
        self.bad = bad

    def init(self):
        return ()

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        loss = jnp.where(step == self.bad, jnp.nan, 1.0) * jnp.sum(params)
        return loss, objectives.Aux(model_state, method_state, {"loss": loss}, {})


def test_a_non_finite_step_changes_nothing_and_is_remembered():
    optimizer = optax.sgd(0.1)
    step = jax.jit(make_step(_Exploding(bad=2), None, optimizer))
    state = create_state(
        params=jnp.ones(3),
        model_state={},
        optimizer=optimizer,
        method_state=(),
        key=jax.random.key(0),
        averaged=False,
    )
    for _ in range(5):
        state, _, _ = step(state, {})
    assert int(state.bad_step) == 2
    assert int(state.step) == 2
    np.testing.assert_allclose(state.params, 0.8, rtol=1e-6)


def test_accumulated_steps_update_once_and_the_average_follows_only_updates():
    optimizer = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
    step = jax.jit(make_step(_Exploding(bad=-1), None, optimizer, average_decay=0.5, accumulate=2))
    state = create_state(
        params=jnp.ones(3), model_state={}, optimizer=optimizer, method_state=(), key=jax.random.key(0), averaged=True
    )
    state, _, _ = step(state, {})
    np.testing.assert_array_equal(state.params, 1.0)
    np.testing.assert_array_equal(state.average, 1.0)
    state, _, _ = step(state, {})
    np.testing.assert_allclose(state.params, 0.9, rtol=1e-6)
    # the first average is young: its decay is min(0.5, 2 / 11)
    np.testing.assert_allclose(state.average, 1.0 - (1 - 2 / 11) * 0.1, rtol=1e-6)


def test_a_projection_is_applied_after_the_update():
    optimizer = optax.sgd(1.0)
    step = jax.jit(make_step(_Exploding(bad=-1), None, optimizer, project=lambda params: jnp.maximum(params, 0.25)))
    state = create_state(
        params=jnp.ones(2), model_state={}, optimizer=optimizer, method_state=(), key=jax.random.key(0), averaged=False
    )
    np.testing.assert_array_equal(step(state, {})[0].params, 0.25)


@pytest.mark.slow
def test_batch_norm_statistics_do_not_depend_on_the_number_of_devices():
    """A tower with synchronised, masked BatchNorm through the whole step."""

    def run(devices):
        axis = None if devices == 1 else AXIS
        encoder = models.build_encoder({"name": "convnet", "widths": (4,), "norm": "batch"}, axis_name=axis)
        images = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3)).astype(np.uint8)
        variables = jax.jit(encoder.init, static_argnames="train")(
            jax.random.key(0), images[:2], train=False, rows=None, where=None
        )

        def apply(params, model_state, a, b, *, train, rows, where, key):
            features, changed = encoder.apply(
                {"params": params, **model_state}, a, train=train, rows=rows, where=where, mutable=["batch_stats"]
            )
            z = l2_normalize(features)
            return {"a": z, "b": l2_normalize(b), "temperature": jnp.float32(0.1), "bias": jnp.float32(0.0)}, changed

        width = jax.eval_shape(
            lambda v: encoder.apply(v, images[:2], train=False, rows=None, where=None), variables
        ).shape[1]
        optimizer = optax.sgd(0.1)
        objective = objective_of("baseline")
        step = make_step(objective, apply, optimizer, axis_name=axis)
        state = create_state(
            params=variables["params"],
            model_state={"batch_stats": variables["batch_stats"]},
            optimizer=optimizer,
            method_state=(),
            key=jax.random.key(1),
            averaged=False,
        )
        index = batch_rows(np.arange(10), batch_size=10, devices=devices)[0]
        where = index >= 0
        batch = {
            "a": np.where(where[:, None, None, None], images[index], 77).astype(np.uint8),
            "b": np.random.default_rng(2).normal(size=(10, width)).astype(np.float32)[index],
            "index": index.astype(np.int32),
            "where": where,
        }
        compiled = jax.jit(step) if devices == 1 else shard_step(step, batch_mesh(jax.devices()[:devices]))
        return compiled(state, batch)[0]

    one, four = run(1), run(4)
    found, expected = (jax.tree.leaves((state.params, state.model_state)) for state in (four, one))
    for leaf, leaf0 in zip(found, expected, strict=True):
        np.testing.assert_allclose(leaf, leaf0, rtol=1e-5, atol=1e-6)
