"""A state sharded over devices trains, is saved and is resumed as a replicated one, with a share of its memory."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from shared_runs import shared_run

from alignment_jax import config as configs
from alignment_jax.models import tuning
from alignment_jax.models.pretrained.transformer import Layers, Numerics, Transformer
from alignment_jax.train import checkpoint
from alignment_jax.train.device_data_set import DeviceDataSet
from alignment_jax.train.epoch_order import EpochOrder
from alignment_jax.train.loop import fit, initial_state, placement_of
from alignment_jax.train.objective import Aux, global_rows
from alignment_jax.train.optimizer import make_optimizer
from alignment_jax.train.parameter_sharding import SMALLEST
from alignment_jax.train.score_pass import ScorePass
from alignment_jax.train.start import placed_initial_state
from alignment_jax.train.state import create_state
from alignment_jax.train.step import Placement, make_sharded_step, make_step

pytestmark = pytest.mark.costly

DIM, STEPS, ACCUMULATE = 256, 4, 2  # a matrix has 2**16 numbers, the smallest that is sharded
RATE, EPSILON, CLIP = 1e-3, 1e-3, 0.1
ONE, ALL, SHARDED, PAIR = (1, "none"), (8, "none"), (8, "parameters"), (2, "parameters")
# Adam changes a parameter by less than RATE / EPSILON times the error of its clipped gradient; that of six products of
# DIM terms in a row is below 6 DIM roundings of its norm.
BOUND = STEPS // ACCUMULATE * RATE / EPSILON * CLIP * 6 * DIM * 2.0**-24


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    image, text = (rng.normal(size=(64, DIM)).astype(np.float32) for _ in range(2))
    np.savez(path, image=image, text=text, split=np.array((["train"] * 7 + ["val"]) * 8))
    return path


_RUNS = {}


def run_of(pairs, devices, shard):
    """(experiment, placement) of 4 steps with AdamW, clipping, an average, accumulation and micro-batches."""
    if (pairs, devices, shard) not in _RUNS:
        config = configs.default()
        config.data, config.model.dim = f"embeddings:{pairs}", DIM
        config.model.blocks_a = config.model.blocks_b = 0
        # 14 rows: batches on 8 devices are padded.
        config.input.batch_size, config.train.duration = 14, "1 epochs"
        config.train.devices, config.train.shard = devices, shard
        config.optimizer.ema, config.optimizer.accumulate, config.optimizer.micro_batch = 0.9, ACCUMULATE, 1
        chain = optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(RATE, eps=EPSILON, weight_decay=0.1))
        optimizer = optax.MultiSteps(chain, ACCUMULATE).gradient_transformation()
        experiment = dataclasses.replace(shared_run(config).experiment, optimizer=optimizer)
        _RUNS[pairs, devices, shard] = experiment, placement_of(experiment)
    return _RUNS[pairs, devices, shard]


@functools.cache
def trained(pairs, devices, shard):
    """State, metrics and scores after STEPS steps, and the compiled program."""
    experiment, placement = run_of(pairs, devices, shard)
    state = placed_initial_state(experiment, placement)
    batches = list(experiment.batches(EpochOrder(experiment, placement).rows(state, 0), 0, 0))
    assert len(batches) == STEPS
    steps = DeviceDataSet(placement, experiment.tables)
    program = steps.lower(state, batches).compile()
    state, metrics = steps(state, batches)
    score = ScorePass(experiment.objective, experiment.model.apply, placement)
    (scores,) = score(state, experiment.scoring_batches(np.arange(16)[None]))
    return state, jax.device_get(metrics), scores, program


def assert_same(found, expected):
    fields = ("params", "average", "opt_state")
    found, expected = ([getattr(state, name) for name in fields] for state in (found, expected))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=BOUND), found, expected)


@pytest.mark.parametrize("way", [SHARDED, ALL])
def test_a_sharded_state_trains_as_one_device(way, pairs):
    state, metrics, scores, _ = trained(pairs, *way)
    state0, metrics0, scores0, _ = trained(pairs, *ONE)
    moved = jax.tree.map(
        lambda x, y: float(np.abs(x - y).max()), state0.params, initial_state(run_of(pairs, *ONE)[0]).params
    )
    assert moved["a"]["project"]["kernel"] > 20 * BOUND
    assert_same(state, state0)
    assert metrics["gradient_norm"] > CLIP
    assert metrics.keys() == metrics0.keys()
    for found, expected in ((metrics, metrics0), (scores, scores0)):
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_device_holds_its_share_of_the_state(pairs):
    devices, _ = SHARDED
    experiment, placement = run_of(pairs, *SHARDED)
    leaves = [x for x in jax.tree.leaves(initial_state(experiment)) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    large = sum(x.nbytes for x in leaves if x.size >= SMALLEST)
    small = sum(x.nbytes for x in leaves if x.size < SMALLEST)
    assert large == 5 * 2 * DIM * DIM * 4  # both towers: parameters, two moments, gradients and average
    found = trained(pairs, *SHARDED)[-1].memory_analysis().argument_size_in_bytes
    others = (
        sum(x.nbytes for x in experiment.tables.values()) + 32 * 16 // devices * 64
    )  # tables, row numbers of 32 steps
    assert 0 <= found - (large // devices + small) < others + 128 * len(leaves)
    for state in (placed_initial_state(experiment, placement), trained(pairs, *SHARDED)[0]):
        held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((state.params, state.opt_state)))
        assert held < 0.2 * sum(x.nbytes for x in jax.tree.leaves((state.params, state.opt_state)))


def test_one_device_shards_nothing(pairs):
    experiment, _ = run_of(pairs, *ONE)
    placement = placement_of(dataclasses.replace(experiment, shard="parameters"))
    assert not placement.sharded
    assert placement.step.__qualname__ == run_of(pairs, *ONE)[1].step.__qualname__


@pytest.mark.parametrize(("first", "then"), [(SHARDED, ONE), (ONE, SHARDED), (SHARDED, PAIR)])
def test_a_run_is_resumed_on_other_devices(first, then, pairs, tmp_path):
    for way, steps in ((first, STEPS // 2), (then, STEPS)):
        experiment, placement = run_of(pairs, *way)
        plan = dataclasses.replace(experiment.plan, total_steps=steps)
        experiment = dataclasses.replace(experiment, plan=plan)
        finished = fit(experiment, tmp_path, quiet=True, tensorboard=False, placement=placement)
    expected = trained(pairs, *ONE)[0]
    target = checkpoint.abstract(initial_state(experiment), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    with_checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
    restored = with_checkpoints.restore(target)
    with_checkpoints.close()
    assert restored.step == STEPS
    assert_same(restored.state, expected)
    assert jax.tree.all(jax.tree.map(lambda x: x.is_fully_replicated, finished.variables))


class _Regression:
    """Least squares of a model with frozen parameters; the loss of the whole batch."""

    def init(self):
        return ()

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        rows = global_rows(len(batch["a"]), axis_name)
        outputs, model_state = apply(params, model_state, batch["a"], rows=rows, key=key)
        loss = jnp.mean(jnp.square(outputs))
        loss = loss if axis_name is None else jax.lax.pmean(loss, axis_name)
        return loss, Aux(model_state, method_state, {"loss": loss}, {"a": batch["a"][:, 0]})


@dataclasses.dataclass(frozen=True)
class _Way:
    """State and metrics after two steps, the shardings before, and the text of the compiled step."""

    state: object
    metrics: dict
    before: object
    text: str


def ways(apply, optimizer, params, model_state, rows, **changes):
    """Two steps on one device, and on eight with a sharded state."""
    parts, found = (_Regression(), apply, optimizer), []
    for devices in (1, 8):
        placement = Placement(
            jax.devices()[:devices],
            lambda axis: make_step(*parts, axis_name=axis, **changes),
            lambda mesh: make_sharded_step(*parts, mesh=mesh, **changes),
        )
        start = {"method_state": (), "key": jax.random.key(0), "averaged": False}
        state = create_state(params=params, model_state=model_state, optimizer=optimizer, **start)
        state = placement.put_state(jax.tree.map(jnp.copy, state))  # a step donates its state
        batch = placement.put_batch({"a": rows})
        before = jax.tree.map(lambda x: x.sharding, state)
        step = placement.run.lower(state, batch).compile()
        for _ in range(2):
            state, metrics, per_sample = step(state, batch)
        kept = jax.tree.map(lambda x, sharding: x.sharding.is_equivalent_to(sharding, x.ndim), state, before)
        assert jax.tree.all(kept)
        np.testing.assert_array_equal(per_sample["a"], rows[:, 0])
        found.append(_Way(state, metrics, before, step.as_text()))
    return found


def _layers(params, model_state, a, *, rows, key):
    """A frozen matrix, then arrays of which two are sharded; `tall` along the axis of its layers."""
    x = a @ model_state["frozen"]["kernel"]
    x = x * jnp.mean(params["tall"], axis=0) + jnp.mean(params["bias"])
    return x @ params["kernel"] @ params["uneven"], {**model_state, "count": model_state["count"] + 1}


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_norms_of_arrays_rates_of_layers_and_frozen_parameters(name):
    rng = np.random.default_rng(0)
    shapes = {"tall": (2 * DIM, DIM), "kernel": (DIM, DIM), "uneven": (DIM, 129), "bias": (2 * DIM,)}
    params = {k: jnp.asarray(rng.normal(1.0, 0.01, shape), jnp.float32) for k, shape in shapes.items()}
    frozen = jnp.asarray(rng.normal(size=(DIM, DIM)) / DIM, jnp.float32)

    def rates(tree):  # of each layer of `tall`, and one for each other array
        return {k: 0.9 ** jnp.arange(x.shape[0])[:, None] if k == "tall" else jnp.float32(0.5) for k, x in tree.items()}

    optimizer = make_optimizer(
        name,
        optax.constant_schedule(0.1),
        weight_decay=0.1,
        mask=lambda tree: jax.tree.map(lambda x: x.shape != (DIM, DIM), tree),
        clip=CLIP,
        rates=rates,
    )
    changes = {"project": lambda tree: {**tree, "kernel": jnp.minimum(tree["kernel"], jnp.mean(tree["kernel"]))}}
    model_state = {"frozen": {"kernel": frozen}, "count": jnp.int32(0)}
    rows = rng.normal(1.0, 0.1, size=(8, DIM)).astype(np.float32)
    one, eight = ways(_layers, optimizer, params, model_state, rows, **changes)
    before = eight.before
    assert before.model_state["frozen"]["kernel"].spec == before.params["kernel"].spec == jax.P("batch")
    assert before.params["tall"].spec == jax.P("batch")
    assert before.params["bias"].spec == jax.P()
    assert int(eight.state.model_state["count"]) == 2
    np.testing.assert_array_equal(eight.state.model_state["frozen"]["kernel"], frozen)
    assert one.metrics["gradient_norm"] > CLIP
    for key in shapes:
        np.testing.assert_allclose(eight.state.params[key], one.state.params[key], rtol=1e-5, atol=1e-6, err_msg=key)


class _Tower(nn.Module):
    """Layers of which the weights of the MLP are sharded."""

    @nn.compact
    def __call__(self, x, rows):
        layers = Layers(width=64, depth=3, heads=2, hidden=1024)
        return Transformer(layers, Numerics(remat=True, dropout=0.5), name="layers")(x, train=True, rows=rows)


@pytest.mark.slow
def test_stacks_are_gathered_layer_by_layer_also_the_frozen_part():
    rows = np.random.default_rng(0).normal(size=(8, 3, 64)).astype(np.float32)
    tower = _Tower()
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    params, frozen = tuning.split_parameters(jax.jit(tower.init)(keys, rows, np.arange(8))["params"], "last:1")

    def apply(params, model_state, x, *, rows, key):
        whole = tuning.join_parameters(params, model_state["frozen"])
        return tower.apply({"params": whole}, x, rows, rngs={"dropout": key}), model_state

    # The square of a step's gradient: an error of it shows in proportion.
    one, eight = ways(apply, optax.sgd(0.1), params, {"frozen": frozen}, rows)
    assert eight.before.model_state["frozen"]["layers"]["below"]["mlp"]["up"]["kernel"].spec == jax.P(
        None, None, "batch"
    )
    for found, expected in zip(jax.tree.leaves(eight.state.params), jax.tree.leaves(one.state.params), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # Of the frozen part, two layers: a device holds its shards, and one layer at a time.
    assert "f32[2,64,128]" in eight.text
    assert "f32[64,1024]" in eight.text
    assert "f32[2,64,1024]" not in eight.text
